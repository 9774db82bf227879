//! `extra_hosts`: lines for `/etc/hosts`.

use std::net::IpAddr;

use super::At;
use crate::context::clip;

/// Names with addresses, in order; a name may have several.
pub(crate) fn read(at: &At<'_>) -> Vec<(String, String)> {
    if at.is_map() {
        let one = |(name, at): (&str, At<'_>)| -> Vec<(String, String)> {
            at.one_or_items().iter().filter_map(|item| pair(name, item.text()?, item)).collect()
        };
        return at.entries().into_iter().flat_map(one).collect();
    }
    let mut hosts = Vec::new();
    for item in at.items() {
        let Some(text) = item.text() else { continue };
        // `=` is the newer form: it leaves the colons to IPv6.
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, address)) => hosts.extend(pair(name, address, &item)),
            None => item.error(format!("`{}` must be `name=address`", clip(text))),
        }
    }
    hosts
}

fn pair(name: &str, address: &str, at: &At<'_>) -> Option<(String, String)> {
    let (name, address) = (name.trim(), address.trim());
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() || name.contains(char::is_whitespace) {
        at.error(format!("`{}` is no host name", clip(name)));
        return None;
    }
    if plain != "host-gateway" && plain.parse::<IpAddr>().is_err() {
        at.error(format!("`{}` must be an address or `host-gateway`", clip(address)));
        return None;
    }
    Some((name.to_owned(), plain.to_owned()))
}
