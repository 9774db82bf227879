//! What runs in the container, as whom, and how it is stopped.

use outrigger_protocol::ContainerSpec;

use super::{At, Fields};
use crate::context::clip;
use crate::values::split_words;

pub(crate) fn read(fields: &mut Fields<'_>, container: &mut ContainerSpec) {
    container.command = fields.take("command").and_then(|at| words(&at));
    container.entrypoint = fields.take("entrypoint").and_then(|at| words(&at));
    container.user = fields.take_filled("user").and_then(|at| at.filled());
    container.working_dir = fields.take_filled("working_dir").and_then(|at| absolute(&at));
    container.stop_signal = fields.take_filled("stop_signal").and_then(|at| signal(&at));
    if let Some(grace) = fields.take("stop_grace_period").and_then(|at| at.duration()) {
        container.stop_grace = grace;
    }
    container.init = fields.take("init").and_then(|at| at.boolean());
    let mut flag = |key: &'static str| fields.take(key).and_then(|at| at.boolean()).unwrap_or(false);
    container.tty = flag("tty");
    container.read_only = flag("read_only");
    container.privileged = flag("privileged");
    let mut texts = |key: &'static str| fields.take(key).map(|at| at.strings()).unwrap_or_default();
    container.cap_add = texts("cap_add");
    container.cap_drop = texts("cap_drop");
    container.security_opt = texts("security_opt");
    container.group_add = texts("group_add");
}

/// A list of words, or a line that is split into them. An empty one resets what the image says.
pub(crate) fn words(at: &At<'_>) -> Option<Vec<String>> {
    if at.is_list() {
        return Some(at.items().iter().filter_map(At::string).collect());
    }
    at.check(split_words(at.text()?))
}

/// A path inside the container.
pub(crate) fn absolute(at: &At<'_>) -> Option<String> {
    let path = at.filled()?;
    if path.starts_with('/') {
        return Some(path);
    }
    at.error(format!("`{}` must be an absolute path in the container", clip(&path)));
    None
}

fn signal(at: &At<'_>) -> Option<String> {
    let text = at.filled()?;
    let is_number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.len() <= 12
        && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-'));
    if is_number || is_name {
        return Some(text);
    }
    at.error(format!("`{}` is no signal, such as `SIGINT`", clip(&text)));
    None
}
