//! What is told and read as text: durations, the name of a fencing hook, messages of a bounded length.
#![allow(missing_docs, clippy::unwrap_used)]

use jiff::SignedDuration;
use multiactive_api::convert::{format_duration, hook_name, parse_duration};
use multiactive_api::{FencingHook, MESSAGE_MAX, clip};

#[test]
fn durations_read_back_as_written() {
    for (text, millis) in [
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("250ms", 250),
        ("2h1m", 7_260_000),
        ("1m250ms", 60_250),
    ] {
        let read = parse_duration("f", text).unwrap();
        assert_eq!(read, SignedDuration::from_millis(millis), "{text}");
        assert_eq!(format_duration(read), text);
    }
}

#[test]
fn what_is_no_duration_is_refused_with_the_field() {
    for text in [
        "",
        "10",
        "s",
        "10x",
        "1.5s",
        "-1s",
        "10 s",
        "9999999999999999999h",
        "9223372036854775807h",
    ] {
        let error = parse_duration("spec.budgets.fence", text).unwrap_err();
        assert_eq!(error.field, "spec.budgets.fence", "{text}");
    }
}

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

#[test]
fn a_message_that_is_too_long_is_cut_at_a_character() {
    for (length, want) in [(0, 0), (MESSAGE_MAX, MESSAGE_MAX), (MESSAGE_MAX + 1, MESSAGE_MAX)] {
        let message = "ü".repeat(length);
        let clipped = clip(&message);
        assert_eq!(clipped.chars().count(), want, "{length}");
        assert_eq!(clipped == message, length <= MESSAGE_MAX, "{length}");
    }
}
