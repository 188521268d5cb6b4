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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_known_by_host_and_port_and_by_nothing_that_may_be_secret() {
        for (url, want) in [
            ("http://pdu.example", "pdu.example:80"),
            ("https://pdu.example/fence?key=s3cret", "pdu.example:443"),
            ("https://pdu.example?s3cret", "pdu.example:443"),
            ("https://pdu.example:8443/s3cret", "pdu.example:8443"),
            ("http://[fd00::1]:81/", "[fd00::1]:81"),
            ("https://[fd00::1]/", "[fd00::1]:443"),
            ("https://user:s3cret@pdu.example/", "pdu.example:443"),
        ] {
            let hook = FencingHook {
                url: url.to_owned(),
                credentials: None,
                timeout: "1s".to_owned(),
            };
            assert_eq!(hook_name(&hook), want, "{url}");
        }
    }
}
