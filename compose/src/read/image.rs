//! `image` and `platform`. `build` is told what to do instead: devices pull, they do not build.

use outrigger_protocol::{ContainerSpec, Platform};

use super::Fields;
use crate::context::clip;
use crate::diagnostic::Severity;

pub(crate) fn read(fields: &mut Fields<'_>, container: &mut ContainerSpec) {
    let image = fields.take("image");
    let build = fields.take("build");
    if let Some(build) = &build {
        let message = "images are not built here: devices pull them".to_owned();
        let help = "build and push the image (`docker compose build --push`), set `image:`, and remove `build:`";
        build.report(Severity::Error, build.key_mark, message, Some(help.to_owned()));
    }
    if let Some(at) = &image {
        if let Some(text) = at.filled().and_then(|text| at.check(check(&text).map(|()| text))) {
            container.image = text;
        }
    } else if build.is_none() {
        fields.at().report_key(Severity::Error, "the service has no `image`");
    }
    if let Some(at) = fields.take_filled("platform") {
        let parsed = at.text().map(|text| text.parse::<Platform>().map_err(|error| error.to_string()));
        container.platform = parsed.and_then(|parsed| at.check(parsed));
    }
}

/// Docker's rule for references, which registries enforce only after minutes of retries.
fn check(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`{}` is no image reference: {why}", clip(text)));
    if text.len() > 512 {
        return wrong("it is too long");
    }
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return wrong("a digest looks like `sha256:` with 64 hexadecimal digits");
    }
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match rest[last..].split_once(':') {
        Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
        None => (rest, None),
    };
    let tag_char = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    if tag
        .is_some_and(|tag| !(1..=128).contains(&tag.len()) || !tag.bytes().all(tag_char) || tag.starts_with(['.', '-']))
    {
        return wrong("a tag is 1 to 128 letters, digits, `_`, `.` and `-`");
    }
    let path = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => repository,
    };
    if path.bytes().any(|c| c.is_ascii_uppercase()) {
        return wrong("it must be lower case");
    }
    let part_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'.' | b'-');
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(part_char);
    if path.split('/').all(is_part) { Ok(()) } else { wrong("it looks like `[host/]name[:tag][@digest]`") }
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && hex.len() >= 32
            && hex.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_pulls_is_a_reference_and_nothing_else() {
        let digest = format!("nginx:1@sha256:{}", "a".repeat(64));
        for good in ["nginx", "nginx:1.27-alpine", "library/nginx", "localhost:5000/x", "ghcr.io/a/b_c/d.e:V1", &digest]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["UPPER/x", "a b", "a:", "a//b", "/a", "a:b:c", "a@sha256:xyz", "a:.x", "http://x/y", &"a".repeat(600)]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
