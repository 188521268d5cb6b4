//! Headers that do not pass: those of one hop only, and every `x-multiactive-*` from outside.

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use multiactive_core::epoch::Epoch;

/// What every header of ours begins with.
pub const PREFIX: &str = "x-multiactive-";
/// The unit that serves the request.
pub const UNIT: HeaderName = HeaderName::from_static("x-multiactive-unit");
/// The slot of the request's key.
pub const SLOT: HeaderName = HeaderName::from_static("x-multiactive-slot");
/// The epoch of the slot's span, `term.epoch`.
pub const EPOCH: HeaderName = HeaderName::from_static("x-multiactive-epoch");
/// On the answer to a write of a store with a single writer: how far its log had come. A client that sends it with a read sees
/// its own write.
pub const PLACE: HeaderName = HeaderName::from_static("x-multiactive-place");
/// Between routers: the unit whose router sends.
pub const HOP: HeaderName = HeaderName::from_static("x-multiactive-hop");
/// Why the router answered by itself, one word.
pub const REASON: HeaderName = HeaderName::from_static("x-multiactive-reason");
/// On a service's answer: its database refused the write by this SQLSTATE (`MA001`, `MA004`), and nothing was written.
pub const REFUSED: HeaderName = HeaderName::from_static("x-multiactive-refused");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes the headers that speak of one connection only. `Expect` is among them: the router has read the body's
/// announcement and answers it. `Trailer` and `TE` are, too, and with them trailers end here: what comes after the body
/// was not there when the request was routed.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Nobody may take the host away by naming it.
            .filter(|name| *name != HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        EXPECT,
    ] {
        headers.remove(name);
    }
}

/// Removes every header of ours, also where it is written with `_`: gateways that hand headers on as variables of the
/// environment see no difference.
pub fn strip_ours(headers: &mut HeaderMap) {
    // Seldom there, so the search must not allocate.
    while let Some(name) = headers.keys().find(|name| is_ours(name.as_str())) {
        let name = name.clone();
        headers.remove(name);
    }
}

/// Whether a header's name in lower case is one of ours, or could be taken for one.
pub fn is_ours(name: &str) -> bool {
    let same = |(of_name, of_prefix)| of_name == of_prefix || (of_name == b'_' && of_prefix == b'-');
    name.len() >= PREFIX.len() && name.bytes().zip(PREFIX.bytes()).all(same)
}

/// The epoch in a header of another router; `None` where it is absent or unreadable.
pub fn epoch(headers: &HeaderMap) -> Option<Epoch> {
    headers.get(EPOCH)?.to_str().ok()?.parse().ok()
}

/// A header's value from text that we made ourselves; empty where it cannot be one.
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What a request or an answer is stamped with.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The unit that serves.
    pub unit: HeaderValue,
    /// Slot and epoch, where the request has a key.
    pub slot: Option<(HeaderValue, HeaderValue)>,
}

impl Stamp {
    /// Writes it.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(UNIT, self.unit.clone());
        if let Some((slot, epoch)) = &self.slot {
            headers.insert(SLOT, slot.clone());
            headers.insert(EPOCH, epoch.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_of_one_hop_and_those_that_connection_names_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("connection", "keep-alive, Host"),
            ("host", "shop.example"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("x-user-id", "7"),
        ]);
        strip_hop_by_hop(&mut headers);
        let left = map(&[("host", "shop.example"), ("content-length", "3"), ("x-user-id", "7")]);
        assert_eq!(headers, left);
    }

    #[test]
    fn every_header_of_ours_is_removed_however_often_it_comes() {
        let mut headers = map(&[
            ("x-multiactive-unit", "evil"),
            ("x-multiactive-unit", "evil-too"),
            ("X-Multiactive-Hop".to_ascii_lowercase().leak(), "evil"),
            ("x-multiactive-anything", "1"),
            ("x_multiactive_unit", "evil"),
            ("x-multiactiv", "stays"),
        ]);
        strip_ours(&mut headers);
        assert_eq!(headers, map(&[("x-multiactiv", "stays")]));
    }
}
