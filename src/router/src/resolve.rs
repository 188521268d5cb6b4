//! From a request's path and headers to its slot: pure, and the same for requests and for `/route`.

use crate::view::{Compiled, DeclaredKeyspace, Route};
use http::{HeaderMap, StatusCode};
use multiactive_api::OnMissing;
use multiactive_core::key::ExtractError;
use multiactive_core::slots::Slot;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::Arc;

/// Where a request belongs.
#[derive(Debug)]
pub struct Resolved<'v, 'r> {
    /// Its route.
    pub route: &'v Route,
    /// The route's keyspace.
    pub keyspace: &'v Arc<DeclaredKeyspace>,
    /// Its key and slot; `None` where it has no key and any unit may serve it.
    pub key: Option<(Cow<'r, str>, Slot)>,
}

/// A request that belongs nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No keyspace has a route for its path.
    #[error("no keyspace has a route for this path")]
    NoRoute,
    /// Its path is read in different ways by different servers.
    #[error("the path has a segment `.` or `..`, which servers read in different ways: send it normalized")]
    AmbiguousPath,
    /// It has no key, and its keyspace demands one.
    #[error("the request has no key of keyspace {keyspace}")]
    MissingKey {
        /// The keyspace.
        keyspace: String,
    },
    /// It has a key that cannot be one.
    #[error("{0}")]
    BadKey(#[from] ExtractError),
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::AmbiguousPath | Self::MissingKey { .. } | Self::BadKey(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// One word, for answers and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute => "NoRoute",
            Self::AmbiguousPath => "AmbiguousPath",
            Self::MissingKey { .. } => "MissingKey",
            Self::BadKey(error) => error.reason(),
        }
    }
}

/// Route, key and slot of a request.
///
/// # Errors
///
/// [`Refusal`] where it belongs nowhere.
pub fn resolve<'v, 'r>(
    compiled: &'v Compiled,
    path: &'r str,
    headers: &'r HeaderMap,
) -> Result<Resolved<'v, 'r>, Refusal> {
    if has_dot_segment(path) {
        return Err(Refusal::AmbiguousPath);
    }
    let route = compiled.route(path).ok_or(Refusal::NoRoute)?;
    let keyspace = compiled.keyspace(route);
    let key = keyspace
        .extractor
        .extract(path, |name| headers.get(name).map(|value| value.as_bytes()))?;
    let key = match (key, keyspace.on_missing) {
        (Some(key), _) => {
            let slot = keyspace.keyspace.slot_of(&key);
            Some((key, slot))
        }
        (None, OnMissing::Any) => None,
        (None, OnMissing::Reject) => {
            return Err(Refusal::MissingKey {
                keyspace: keyspace.name.to_string(),
            });
        }
    };
    Ok(Resolved { route, keyspace, key })
}

/// `/orders/../admin` would be routed as orders and served as admin.
fn has_dot_segment(path: &str) -> bool {
    // Nearly no path has a dot or an escape after a slash: two quick searches spare the rest.
    if !path.contains("/.") && !path.contains("/%2") {
        return false;
    }
    path.split('/').any(|segment| {
        let decoded: Cow<'_, [u8]> = percent_decode_str(segment).into();
        matches!(decoded.as_ref(), b"." | b"..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_found_in_every_writing_and_names_with_dots_are_not_taken_for_them() {
        for (path, want) in [
            ("/orders/../admin", true),
            ("/orders/%2e%2E/admin", true),
            ("/orders/.%2e", true),
            ("/./orders", true),
            ("/orders/.", true),
            ("/orders/.well-known", false),
            ("/orders/a..b", false),
            ("/orders/...", false),
            ("/orders/%20x", false),
            ("/", false),
        ] {
            assert_eq!(has_dot_segment(path), want, "{path}");
        }
    }
}
