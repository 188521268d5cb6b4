//! Failpoints: named places at which a process dies on request, so that tests can kill it before and after each effect.
//!
//! `MULTIACTIVE_FAILPOINT=name` aborts at the first passing of that place, `name:n` at the n-th. Without the variable
//! a place costs one load. Each program lists its places in one const and refuses a name that is not in it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms a failpoint.
pub const VARIABLE: &str = "MULTIACTIVE_FAILPOINT";

/// The place that is armed in this process.
static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

#[derive(Debug)]
struct Armed {
    name: String,
    passings_left: AtomicU64,
}

/// The variable does not name a place of this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}={0} names no failpoint of this program: see --list-failpoints")]
pub struct UnknownFailpoint(pub String);

/// Checks that the variable, where it is set, names one of `known`.
///
/// # Errors
///
/// [`UnknownFailpoint`]: a test that arms a place that does not exist would pass without testing anything.
pub fn check(known: &[&str]) -> Result<(), UnknownFailpoint> {
    match std::env::var(VARIABLE) {
        Ok(text) if parse(&text).is_none_or(|armed| !known.contains(&armed.name.as_str())) => {
            Err(UnknownFailpoint(text))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Passes the place `name`: aborts the process where it is armed and this is its turn.
pub fn hit(name: &'static str) {
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().as_deref().and_then(parse));
    if armed.as_ref().is_some_and(|armed| armed.strikes(name)) {
        tracing::error!(failpoint = name, "aborting: this failpoint is armed");
        std::process::abort();
    }
}

/// `name` or `name:n`, n at least 1.
fn parse(text: &str) -> Option<Armed> {
    let (name, passings) = match text.split_once(':') {
        Some((name, count)) => (name, count.parse().ok().filter(|count| *count > 0)?),
        None => (text, 1),
    };
    (!name.is_empty()).then(|| Armed {
        name: name.to_owned(),
        passings_left: AtomicU64::new(passings),
    })
}

impl Armed {
    /// Whether this passing of `name` is the one to die at.
    fn strikes(&self, name: &str) -> bool {
        self.name == name && self.passings_left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_strikes_at_the_counted_passing_of_its_own_name_only() {
        for (text, dies_at) in [("fence", 1), ("fence:1", 1), ("fence:3", 3)] {
            let armed = parse(text).unwrap();
            assert!(!armed.strikes("open"), "{text}: another place");
            let died = (1..10).find(|_| armed.strikes("fence"));
            assert_eq!(died, Some(dies_at), "{text}");
        }
    }

    #[test]
    fn malformed_texts_arm_nothing() {
        for text in ["", ":1", "fence:0", "fence:x", "fence:"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
