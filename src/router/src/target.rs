//! What a request is addressed to and how it is framed: exactly one host, the same one in target and header, and no
//! coding of the body that the router would pass on unread. Where these differ, servers do not agree on which one counts.
//!
//! hyper has seen to the rest: it refuses contradicting lengths, and of `Transfer-Encoding` and `Content-Length` together
//! it drops the second and closes the connection after the answer.

use crate::answer::Answer;
use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version, request};

/// Checks target, `Host` and `Transfer-Encoding` of a request as it came.
///
/// # Errors
///
/// The answer, where there is no host, more than one, or another one in the target; where the body has another coding
/// than `chunked`.
pub fn check(parts: &request::Parts) -> Result<(), Answer> {
    let refused = |reason, message| Err(Answer::new(StatusCode::BAD_REQUEST, reason, message));
    let codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if !codings
        .map(HeaderValue::as_bytes)
        .all(|coding| coding.eq_ignore_ascii_case(b"chunked"))
    {
        let message = "of all transfer codings only chunked is understood";
        return Err(Answer::new(StatusCode::NOT_IMPLEMENTED, "TransferCoding", message));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return if parts.version >= Version::HTTP_11 {
            refused("NoHost", "the request has no Host")
        } else {
            Ok(())
        };
    };
    if hosts.next().is_some() {
        return refused("AmbiguousHost", "the request has more than one Host");
    }
    let host = host.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%:[]!$&'()*+;=".contains(byte);
    if !host.iter().all(allowed) {
        return refused("AmbiguousHost", "the request's Host is no host");
    }
    match parts.uri.authority() {
        Some(target) if !target.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            refused("AmbiguousHost", "the request's target names another host than its Host")
        }
        Some(_) | None => Ok(()),
    }
}
