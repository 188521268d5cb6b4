//! The path that a request is decided by: percent-decoded once, as every server decodes it before it looks for a handler.
//!
//! A path that servers read in different ways is refused: the router would take a key from one reading, and the service
//! would act by another.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A path that is not decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The target of the request is `*`, an authority, or nothing.
    #[error("the request's target is no path that begins with a slash")]
    NoPath,
    /// `.` or `..`, which some servers resolve.
    #[error("the path has a segment `.` or `..`, which servers read in different ways: send it normalized")]
    DotSegment,
    /// `//`, which some servers merge.
    #[error("the path has an empty segment, which servers read in different ways: send it normalized")]
    EmptySegment,
    /// `%2f`, `%5c` or a backslash, which some servers take for a slash.
    #[error("the path has an encoded slash or a backslash, which servers read in different ways")]
    EncodedSlash,
    /// A byte below space, or DEL: some servers end the path there.
    #[error("the path has a control character")]
    Control,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a `%` without two hexadecimal digits")]
    BadEscape,
    /// It is no UTF-8 once it is decoded.
    #[error("the path is not valid UTF-8")]
    InvalidUtf8,
}

impl PathError {
    /// One word, for answers and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoPath => "BadTarget",
            Self::InvalidUtf8 => "InvalidUtf8",
            Self::DotSegment | Self::EmptySegment | Self::EncodedSlash | Self::Control | Self::BadEscape => {
                "AmbiguousPath"
            }
        }
    }
}

/// A path without its query as it came, decoded once. What decodes to a slash is refused, so it has the same segments.
///
/// # Errors
///
/// [`PathError`] where servers do not agree on what the path says.
pub fn decode(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NoPath);
    }
    let decoded = if path.contains('%') {
        unescape(path)?
    } else {
        Cow::Borrowed(path)
    };
    if decoded.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(PathError::Control);
    }
    if decoded.contains('\\') {
        return Err(PathError::EncodedSlash);
    }
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        // Some servers cut off what follows a semicolon before they look for dots.
        match segment.split(';').next().unwrap_or_default() {
            "." | ".." => return Err(PathError::DotSegment),
            // A slash at the end is a path of its own.
            "" if segment.is_empty() && segments.peek().is_some() => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    Ok(decoded)
}

fn unescape(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    for (at, _) in path.match_indices('%') {
        match bytes.get(at + 1..at + 3) {
            Some([b'2', b'f' | b'F'] | [b'5', b'c' | b'C']) => return Err(PathError::EncodedSlash),
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
            Some(_) | None => return Err(PathError::BadEscape),
        }
    }
    percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| PathError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_read_in_the_same_way_is_decoded_once() {
        for (path, want) in [
            ("/", "/"),
            ("/orders/", "/orders/"),
            ("/orders/.well-known", "/orders/.well-known"),
            ("/orders/a..b/...", "/orders/a..b/..."),
            ("/%6frders/%61lice", "/orders/alice"),
            ("/orders/%20x%3Fy%23z", "/orders/ x?y#z"),
            ("/orders/%252e%252e/x", "/orders/%2e%2e/x"),
            ("/orders/b%C3%A9a", "/orders/béa"),
            ("/orders;v=1/x", "/orders;v=1/x"),
        ] {
            assert_eq!(decode(path).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn what_servers_read_in_different_ways_is_refused_in_every_writing() {
        use PathError::{BadEscape, Control, DotSegment, EmptySegment, EncodedSlash, InvalidUtf8, NoPath};
        for (path, want) in [
            ("", NoPath),
            ("*", NoPath),
            ("orders", NoPath),
            ("/orders/../admin", DotSegment),
            ("/orders/%2e%2E/admin", DotSegment),
            ("/orders/.%2e", DotSegment),
            ("/./orders", DotSegment),
            ("/orders/.", DotSegment),
            ("/orders/..;/admin", DotSegment),
            ("/orders/..%3bx/admin", DotSegment),
            ("//orders", EmptySegment),
            ("/orders//7", EmptySegment),
            ("/orders//", EmptySegment),
            ("/orders%2f7", EncodedSlash),
            ("/orders%2F..%2Fadmin", EncodedSlash),
            ("/orders/%5c7", EncodedSlash),
            ("/orders\\7", EncodedSlash),
            ("/orders/%00", Control),
            ("/orders/a%0d%0Ab", Control),
            ("/orders/%7F", Control),
            ("/orders/%", BadEscape),
            ("/orders/%2", BadEscape),
            ("/orders/%zz", BadEscape),
            ("/orders/%ff%fe", InvalidUtf8),
        ] {
            assert_eq!(decode(path), Err(want), "{path}");
        }
    }
}
