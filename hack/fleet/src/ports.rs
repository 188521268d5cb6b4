//! Free ports on loopback.
//!
//! They come from below the range that the kernel hands to outgoing connections, so that a server which is stopped and
//! started again finds its port still free.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::{Error, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Ports this process handed out: their servers may not listen yet.
static HANDED_OUT: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of 127.0.0.1 on which nobody listens and that this process did not hand out before.
///
/// # Errors
///
/// [`Error::Refused`] when all ports of the range are taken.
pub fn free() -> Result<u16> {
    let span = u64::from(LAST - FIRST);
    // `RandomState` is seeded by the system: two processes start looking at different places.
    let start = RandomState::new().hash_one("port") % span;
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    for step in 0..span {
        let Ok(offset) = u16::try_from((start + step) % span) else {
            continue;
        };
        let port = FIRST + offset;
        if !handed_out.contains(&port) && is_free(port) {
            handed_out.insert(port);
            return Ok(port);
        }
    }
    Err(Error::Refused(format!(
        "no free port between {FIRST} and {LAST}: end programs that listen there"
    )))
}

/// Whether a server could listen on this port of 127.0.0.1 now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_and_a_taken_one_never() {
        let ports: HashSet<u16> = (0..50).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free().unwrap())).unwrap();
        assert!(!is_free(taken.local_addr().unwrap().port()));
    }
}
