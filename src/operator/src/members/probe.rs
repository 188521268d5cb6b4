//! Whether a member answers: from single probes to readiness, by thresholds. Pure.

use crate::conditions::Readiness;
use crate::members::Health;
use jiff::Timestamp;

/// After how many failed probes in a row a member is not ready; one transient error changes nothing.
pub const FAILURES: u32 = 3;

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It answered.
    Answered,
    /// It did not, or refused.
    Failed {
        /// One word.
        reason: &'static str,
        /// What happened.
        message: String,
    },
    /// It was not asked: how to reach it is wrong, which only an edit changes.
    Misconfigured {
        /// One word.
        reason: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

/// The state of one member over its probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Whether it was ready after the last probe; `None` before the first verdict.
    pub ready: Option<bool>,
    failures: u32,
    last: Option<Readiness>,
}

impl Probes {
    /// Takes a probe into account; the verdict, or `None` while there is none yet.
    pub fn take(&mut self, probe: Probe) -> Option<Readiness> {
        let verdict = match probe {
            Probe::Answered => {
                self.failures = 0;
                Readiness::Ready {
                    reason: "Answering",
                    message: "the cluster answers".to_owned(),
                }
            }
            Probe::Misconfigured { reason, message } => Readiness::Stalled { reason, message },
            Probe::Failed { reason, message } => {
                self.failures = self.failures.saturating_add(1);
                if self.failures < FAILURES {
                    return self.last.clone();
                }
                // The count stays out of the message: it would be a write for each probe.
                match reason {
                    "CredentialsExpired" | "CredentialsRejected" | "Forbidden" => {
                        Readiness::Stalled { reason, message }
                    }
                    _ => Readiness::Reconciling { reason, message },
                }
            }
        };
        self.ready = Some(verdict.is_ready());
        self.last = Some(verdict.clone());
        Some(verdict)
    }

    /// Whether to ask again soon.
    pub fn wavers(&self) -> bool {
        self.failures > 0 && self.failures < FAILURES
    }
}

/// The health that a verdict means for those who use the member.
pub fn health(readiness: &Readiness) -> Health {
    match readiness {
        Readiness::Ready { .. } => Health::Ready,
        Readiness::Reconciling { reason, message } | Readiness::Stalled { reason, message } => Health::NotReady {
            reason,
            message: message.clone(),
        },
    }
}

/// What an error of a probe means, where the credentials are good `until` then, as far as they say so themselves.
/// `secret` names the kubeconfig's Secret and key, where there is one.
pub fn failed(error: &crate::Error, secret: Option<&str>, until: Option<Timestamp>, now: Timestamp) -> Probe {
    let renew = secret.map_or_else(String::new, |secret| format!("; put new credentials into {secret}"));
    let expired = until.filter(|until| *until <= now);
    let (reason, hint) = match (error, error.status()) {
        (crate::Error::Timeout { .. }, _) => ("NotAnswering", String::new()),
        (_, Some(status)) if status.code == 401 => match expired {
            Some(until) => (
                "CredentialsExpired",
                format!("; the credentials ended at {until}{renew}"),
            ),
            None => ("CredentialsRejected", renew),
        },
        (_, Some(status)) if status.is_forbidden() => ("Forbidden", "; install the chart in the member".to_owned()),
        (_, Some(_)) => ("ErrorAnswer", String::new()),
        (_, None) => ("Unreachable", String::new()),
    };
    Probe::Failed {
        reason,
        message: format!("{}{hint}", error.chain()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_several_failures_in_a_row_make_a_member_unready() {
        let bad = || Probe::Failed {
            reason: "Unreachable",
            message: "m".to_owned(),
        };
        let mut probes = Probes::default();
        for (probe, want) in [
            (bad(), None),
            (Probe::Answered, Some(true)),
            (bad(), Some(true)),
            (bad(), Some(true)),
            (Probe::Answered, Some(true)),
            (bad(), Some(true)),
            (bad(), Some(true)),
            (bad(), Some(false)),
            (bad(), Some(false)),
            (Probe::Answered, Some(true)),
        ] {
            let got = probes.take(probe.clone()).map(|verdict| verdict.is_ready());
            assert_eq!(got, want, "{probe:?}");
        }
    }

    #[test]
    fn credentials_that_ended_and_are_refused_have_expired() {
        let answer = |code: u16| {
            let status = serde_json::json!({"code": code, "reason": "R", "message": "not you", "status": "Failure"});
            crate::Error::Read {
                kind: "Namespace".into(),
                name: "kube-system".to_owned(),
                source: Box::new(kube::Error::Api(serde_json::from_value(status).unwrap())),
            }
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        for (code, until, want) in [
            (401, None, "CredentialsRejected"),
            (401, Some(101), "CredentialsRejected"),
            (401, Some(100), "CredentialsExpired"),
            (500, Some(99), "ErrorAnswer"),
        ] {
            let secret = "key config of Secret system/north";
            match failed(&answer(code), Some(secret), until.map(at), at(100)) {
                Probe::Failed { reason, message } => {
                    assert_eq!(reason, want, "{code} {until:?}");
                    assert!(
                        message.starts_with("reading Namespace kube-system: not you"),
                        "{message}"
                    );
                    assert!(!message.contains("Status"), "only the server's message: {message}");
                    let renew = "; put new credentials into key config of Secret system/north";
                    assert_eq!(message.ends_with(renew), code == 401, "{message}");
                }
                other @ (Probe::Answered | Probe::Misconfigured { .. }) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_wrong_kubeconfig_is_told_at_once() {
        let verdict = Probes::default().take(Probe::Misconfigured {
            reason: "KubeconfigInvalid",
            message: "m".to_owned(),
        });
        assert!(matches!(
            verdict,
            Some(Readiness::Stalled {
                reason: "KubeconfigInvalid",
                ..
            })
        ));
    }
}
