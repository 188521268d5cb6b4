//! Failpoints: named places at which a process dies on request, so that tests can kill it before and after each effect.
//!
//! `MULTIACTIVE_FAILPOINT=name` aborts at the first passing of that place, `name:n` at the n-th. `@file` looks for such
//! a text in that file at each passing, and removes the file before it aborts: so a test arms a process that runs, and
//! the one that is started in its place goes on. Without the variable a place costs one load. Each program lists its
//! places in one const and refuses a name that is not in it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The environment variable that arms a failpoint.
pub const VARIABLE: &str = "MULTIACTIVE_FAILPOINT";

/// How this process is armed.
static ARMED: OnceLock<Option<Arming>> = OnceLock::new();

#[derive(Debug)]
enum Arming {
    /// By the variable itself.
    Place(Armed),
    /// By a file; with what it said last and how often its place was passed since.
    File(PathBuf, Mutex<(String, u64)>),
}

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
        Ok(text) if text.starts_with('@') => Ok(()),
        Ok(text) if parse(&text).is_none_or(|armed| !known.contains(&armed.name.as_str())) => {
            Err(UnknownFailpoint(text))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Passes the place `name`: aborts the process where it is armed and this is its turn.
pub fn hit(name: &'static str) {
    let arming = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().as_deref().and_then(arming));
    let strikes = match arming {
        None => false,
        Some(Arming::Place(armed)) => armed.strikes(name),
        Some(Arming::File(path, passed)) => file_strikes(path, passed, name),
    };
    if strikes {
        tracing::error!(failpoint = name, "aborting: this failpoint is armed");
        std::process::abort();
    }
}

fn arming(text: &str) -> Option<Arming> {
    match text.strip_prefix('@') {
        Some(path) => Some(Arming::File(PathBuf::from(path), Mutex::default())),
        None => parse(text).map(Arming::Place),
    }
}

/// Whether the file names this place and this is its turn; then the file is gone.
fn file_strikes(path: &Path, passed: &Mutex<(String, u64)>, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else {
        return false;
    };
    let Some(armed) = parse(text.trim()).filter(|armed| armed.name == name) else {
        return false;
    };
    let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
    if passed.0 != text {
        *passed = (text, 0);
    }
    passed.1 += 1;
    // Whoever removes the file is the one that dies: two threads may pass at once.
    passed.1 >= armed.passings_left.load(Ordering::Relaxed) && std::fs::remove_file(path).is_ok()
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
    fn a_file_arms_one_death_at_the_counted_passing() {
        let path = std::env::temp_dir().join(format!("failpoint-{}", std::process::id()));
        let passed = Mutex::default();
        assert!(!file_strikes(&path, &passed, "fence"), "no file, no death");
        std::fs::write(&path, "fence:2\n").unwrap();
        let deaths: Vec<_> = ["open", "fence", "fence", "fence"]
            .iter()
            .map(|name| file_strikes(&path, &passed, name))
            .collect();
        assert_eq!(deaths, [false, false, true, false]);
        assert!(!path.exists(), "the next process is not armed");
    }

    #[test]
    fn malformed_texts_arm_nothing() {
        for text in ["", ":1", "fence:0", "fence:x", "fence:"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
