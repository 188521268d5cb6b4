//! From a request's path and headers to its slot: pure, and the same for requests and for `/route`.

use crate::view::{Compiled, DeclaredKeyspace, KeyOf, Route};
use http::{HeaderMap, HeaderName, StatusCode};
use multiactive_api::OnMissing;
use multiactive_core::key::{ExtractError, Given};
use multiactive_core::path::PathError;
use multiactive_core::slots::Slot;
use std::sync::Arc;

/// Where a request belongs.
#[derive(Debug)]
pub struct Resolved<'v, 'r> {
    /// Its route.
    pub route: &'v Route,
    /// The route's keyspace.
    pub keyspace: &'v Arc<DeclaredKeyspace>,
    /// Its key and slot; `None` where it has no key and any unit may serve it.
    pub key: Option<(&'r str, Slot)>,
}

/// A request that belongs nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No keyspace has a route for its path.
    #[error("no keyspace has a route for this path")]
    NoRoute,
    /// Its path is none, or is read in different ways by different servers.
    #[error("{0}")]
    Path(#[from] PathError),
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
            Self::Path(_) | Self::MissingKey { .. } | Self::BadKey(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// One word, for answers and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute => "NoRoute",
            Self::Path(error) => error.reason(),
            Self::MissingKey { .. } => "MissingKey",
            Self::BadKey(error) => error.reason(),
        }
    }
}

/// Route, key and slot of a request, by its path as [`multiactive_core::path::decode`] gives it.
///
/// # Errors
///
/// [`Refusal`] where it belongs nowhere.
pub fn resolve<'v, 'r>(
    compiled: &'v Compiled,
    path: &'r str,
    headers: &'r HeaderMap,
) -> Result<Resolved<'v, 'r>, Refusal> {
    let route = compiled.route(path).ok_or(Refusal::NoRoute)?;
    let keyspace = compiled.keyspace(route);
    let (extractor, on_missing) = match &keyspace.key {
        KeyOf::Sources { extractor, on_missing } => (extractor, *on_missing),
        KeyOf::Store { .. } => {
            let key = Some(("", keyspace.keyspace.slot_of("")));
            return Ok(Resolved { route, keyspace, key });
        }
    };
    let key = extractor.extract(path, |name| given(headers, name))?;
    let key = match (key, on_missing) {
        (Some(key), _) => {
            let slot = keyspace.keyspace.slot_of(key);
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

/// What a request says under a key's header. Gateways that hand headers on as variables of the environment (CGI and
/// what came of it) see no difference between `-` and `_`, so such a second name makes it ambiguous.
fn given<'r>(headers: &'r HeaderMap, name: &str) -> Given<'r> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    let other_spelling = |other: &HeaderName| {
        let other = other.as_str();
        other.contains('_') && other != name && same_variable(other, name)
    };
    if values.next().is_some() || headers.keys().any(other_spelling) {
        return Given::Ambiguous;
    }
    first.map_or(Given::Absent, |value| Given::Once(value.as_bytes()))
}

/// Whether two header names in lower case become one variable.
fn same_variable(one: &str, other: &str) -> bool {
    let dash = |byte| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(dash).eq(other.bytes().map(dash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_header_that_services_could_read_in_two_ways_is_ambiguous() {
        for (pairs, want) in [
            (&[][..], Given::Absent),
            (&[("x-user-id", "a")], Given::Once(b"a")),
            (&[("x-user-id", "a"), ("x-user", "b")], Given::Once(b"a")),
            (&[("x-user-id", "a"), ("x-user-id", "b")], Given::Ambiguous),
            (&[("x-user-id", "a"), ("x-user-id", "a")], Given::Ambiguous),
            (&[("x-user-id", "a"), ("x_user_id", "b")], Given::Ambiguous),
            (&[("x-user_id", "b")], Given::Ambiguous),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(given(&headers, "x-user-id"), want, "{pairs:?}");
        }
    }
}
