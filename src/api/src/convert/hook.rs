//! What people know a fencing hook by.

use crate::unit::FencingHook;

/// Host and port of a hook: its path may be nobody's business, and is left out.
pub fn hook_name(hook: &FencingHook) -> String {
    let (scheme, rest) = hook.url.split_once("://").unwrap_or(("http", &hook.url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let port = match (has_port, scheme) {
        (true, _) => "",
        (false, "https") => ":443",
        (false, _) => ":80",
    };
    host.chars().take(240).chain(port.chars()).collect()
}
