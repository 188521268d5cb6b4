//! What can go wrong in a pass: what was being done, to what, and when to try again.

use std::borrow::Cow;
use std::time::Duration;

/// A call to an API server that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read failed: nothing is known.
    #[error("reading {kind} {name}")]
    Read {
        /// The kind.
        kind: Cow<'static, str>,
        /// The object, or what was listed.
        name: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A write failed; whether it took effect is not known unless the server refused it.
    #[error("applying {kind} {name}")]
    Apply {
        /// The kind.
        kind: Cow<'static, str>,
        /// The object.
        name: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A deletion failed.
    #[error("deleting {kind} {name}")]
    Delete {
        /// The kind.
        kind: Cow<'static, str>,
        /// The object.
        name: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// No answer in time: the outcome is not known.
    #[error("{what}: no answer within {limit:?}")]
    Timeout {
        /// What was being done.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl Error {
    /// When to try again; a closed set, so adding a variant forces a choice here.
    pub fn retry(&self) -> Duration {
        match self {
            Self::Read { .. } | Self::Apply { .. } | Self::Delete { .. } => Duration::from_secs(5),
            Self::Timeout { .. } => Duration::from_secs(10),
        }
    }

    /// One word, for metrics and conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ReadFailed",
            Self::Apply { .. } => "ApplyFailed",
            Self::Delete { .. } => "DeleteFailed",
            Self::Timeout { .. } => "Timeout",
        }
    }

    /// What the API server said, where it answered.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Read { source, .. } | Self::Apply { source, .. } | Self::Delete { source, .. } => {
                let kube::Error::Api(status) = &**source else {
                    return None;
                };
                Some(status)
            }
            Self::Timeout { .. } => None,
        }
    }

    /// The error with its causes, in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error with its causes, in one line, without repeating what a cause says again; of an API server's answer its message
/// alone.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let (mut text, mut cause) = (String::new(), Some(error));
    while let Some(error) = cause {
        let boxed = || error.downcast_ref::<Box<kube::Error>>().map(|boxed| &**boxed);
        let said = match error.downcast_ref::<kube::Error>().or_else(boxed) {
            Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(&status.message),
            Some(_) | None => None,
        };
        let next = said.cloned().unwrap_or_else(|| error.to_string());
        if text.is_empty() {
            text = next;
        } else if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        if said.is_some() {
            break;
        }
        cause = error.source();
    }
    text
}
