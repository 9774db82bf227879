//! Memory mounted into the container: `tmpfs:` and its options.

use outrigger_protocol::{Bytes, Mount, MountKind};

use super::At;
use crate::context::clip;
use crate::values;

/// `/run` or `/run:size=64m,mode=1777`
pub(crate) fn read(at: &At<'_>) -> Option<Mount> {
    let text = at.filled()?;
    let (target, options) = text.split_once(':').unwrap_or((&text, ""));
    if !target.starts_with('/') {
        at.error(format!("`{}` must be an absolute path in the container", clip(target)));
        return None;
    }
    let (mut size, mut mode, mut read_only): (Option<Bytes>, Option<u32>, bool) = (None, None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => size = at.check(values::bytes(value)),
            ("mode", value) => mode = at.check(permissions(value)),
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            _ => at.warn(format!("the option `{}` is ignored", clip(option))),
        }
    }
    Some(Mount { kind: MountKind::Tmpfs { size, mode }, target: target.to_owned(), read_only })
}

/// Permissions in octal, however many zeros stand in front.
pub(crate) fn permissions(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777 && !digits.starts_with('+'));
    mode.ok_or_else(|| format!("`{}` must be permissions in octal, such as `1777`", clip(text)))
}
