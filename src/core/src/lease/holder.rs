//! What the holder of a lease does after each attempt at renewing it, and how the lease stands by it.

use super::{Mode, Terms};
use crate::epoch::Epoch;
use crate::ids::OperationUid;
use jiff::SignedDuration;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The ledger took the renewal.
    Renewed {
        /// The table at which the lease was granted.
        granted: Epoch,
    },
    /// The ledger says that the lease is sealed.
    Sealed {
        /// By which operation.
        by: OperationUid,
    },
    /// Whether it was taken is not known, or it was not; why.
    Silent(String),
}

/// What a holder remembers of what the ledger said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The table at which the lease was granted.
    granted: Option<Epoch>,
    /// Who sealed it, where nothing newer was heard.
    sealed: Option<OperationUid>,
    /// When the last renewal that was taken was begun, by the holder's clock.
    renewed: Option<SignedDuration>,
    /// Why the last attempt was not taken.
    silent: Option<String>,
    /// When the last attempt was begun after which the databases were told that writes may pass; `None` once they were told
    /// the contrary.
    extended: Option<SignedDuration>,
}

/// What to tell the unit's databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Writes may pass for [`Terms::window`] from the reading of their clock before the attempt.
    Extend {
        /// Once they were brought to this table.
        granted: Epoch,
    },
    /// Nothing may pass any more.
    Expire,
    /// Nothing: the deadline that they have runs out by itself.
    Leave,
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was renewed.
    Held,
    /// The holder goes on without the ledger; why.
    Alone(String),
    /// It could not be renewed, and is not over; why.
    Late(String),
    /// It is over; why it was not renewed.
    Over(String),
    /// It is sealed.
    Sealed(OperationUid),
}

impl Memory {
    /// Takes note of an attempt that was begun at `begun`, by the holder's clock; what to tell the databases.
    pub fn hear(&mut self, mode: Mode, heard: Heard, begun: SignedDuration) -> Act {
        let act = self.heard(mode, heard, begun);
        match &act {
            Act::Extend { .. } => self.extended = Some(begun),
            Act::Expire => self.extended = None,
            Act::Leave => {}
        }
        act
    }

    fn heard(&mut self, mode: Mode, heard: Heard, begun: SignedDuration) -> Act {
        match heard {
            Heard::Renewed { granted } => {
                *self = Self {
                    granted: Some(granted),
                    sealed: None,
                    renewed: Some(begun),
                    silent: None,
                    extended: self.extended,
                };
                Act::Extend { granted }
            }
            Heard::Sealed { by } => {
                self.sealed = Some(by);
                Act::Expire
            }
            Heard::Silent(why) => {
                self.silent = Some(why);
                match (mode, &self.sealed) {
                    (Mode::Fence, _) | (Mode::KeepServing, Some(_)) => Act::Leave,
                    // A holder that never heard from the ledger goes by what its databases know.
                    (Mode::KeepServing, None) => Act::Extend {
                        granted: self.granted.unwrap_or(Epoch::NEVER),
                    },
                }
            }
        }
    }

    /// The table at which the lease was granted, as far as it was heard.
    pub fn granted(&self) -> Option<Epoch> {
        self.granted
    }

    /// Until when writes may pass, by the holder's clock; `Some(None)` where that is over. The databases read their clocks after
    /// the attempt began, so none of them ends before. `None` where this holder has told them nothing yet: they have what
    /// another one told them.
    pub fn admits_until(&self, terms: Terms) -> Option<Option<SignedDuration>> {
        match (self.extended, &self.sealed) {
            (Some(extended), _) => Some(Some(extended + terms.window())),
            (None, Some(_)) => Some(None),
            (None, None) => None,
        }
    }

    /// How the lease stands; `None` before the first attempt.
    pub fn standing(&self, mode: Mode, terms: Terms, now: SignedDuration) -> Option<Standing> {
        if let Some(by) = &self.sealed {
            return Some(Standing::Sealed(by.clone()));
        }
        let Some(why) = &self.silent else {
            return self.renewed.map(|_| Standing::Held);
        };
        Some(match mode {
            Mode::KeepServing => Standing::Alone(why.clone()),
            Mode::Fence if self.renewed.is_some_and(|renewed| now < renewed + terms.window()) => {
                Standing::Late(why.clone())
            }
            Mode::Fence => Standing::Over(why.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_admitted_from_the_beginning_of_the_last_attempt_that_extended() {
        let terms = Terms::default();
        let until = |begun: i64| Some(Some(seconds(begun) + terms.window()));
        let renewed = || Heard::Renewed { granted: at(3) };
        let silent = || Heard::Silent("silent".to_owned());
        let sealed = || Heard::Sealed { by: "op".into() };
        for (mode, heard, want) in [
            (Mode::Fence, vec![], None),
            (Mode::Fence, vec![silent()], None),
            (Mode::Fence, vec![renewed()], until(0)),
            (Mode::Fence, vec![renewed(), silent()], until(0)),
            (Mode::Fence, vec![renewed(), renewed(), silent()], until(1)),
            (Mode::KeepServing, vec![renewed(), silent()], until(1)),
            (Mode::KeepServing, vec![renewed(), sealed(), silent()], Some(None)),
            (Mode::Fence, vec![sealed()], Some(None)),
            (Mode::Fence, vec![renewed(), sealed(), renewed()], until(2)),
        ] {
            let mut memory = Memory::default();
            for (second, heard) in (0..).zip(heard.clone()) {
                memory.hear(mode, heard, seconds(second));
            }
            assert_eq!(memory.admits_until(terms), want, "{mode} {heard:?}");
        }
    }

    fn at(epoch: u64) -> Epoch {
        Epoch::new(1, epoch)
    }

    fn seconds(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn only_who_keeps_serving_goes_on_without_the_ledger_and_nobody_after_a_seal() {
        let renewed = || Heard::Renewed { granted: at(7) };
        let sealed = || Heard::Sealed { by: "op".into() };
        let silent = || Heard::Silent("no answer".to_owned());
        let extend = |epoch| Act::Extend { granted: epoch };
        for (mode, heard, want) in [
            (Mode::Fence, vec![renewed()], extend(at(7))),
            (Mode::Fence, vec![renewed(), silent()], Act::Leave),
            (Mode::Fence, vec![silent()], Act::Leave),
            (Mode::Fence, vec![renewed(), sealed()], Act::Expire),
            (Mode::Fence, vec![sealed(), renewed()], extend(at(7))),
            (Mode::KeepServing, vec![renewed()], extend(at(7))),
            (Mode::KeepServing, vec![renewed(), silent()], extend(at(7))),
            (Mode::KeepServing, vec![silent()], extend(Epoch::NEVER)),
            (Mode::KeepServing, vec![renewed(), sealed()], Act::Expire),
            (Mode::KeepServing, vec![renewed(), sealed(), silent()], Act::Leave),
            (Mode::KeepServing, vec![sealed(), renewed(), silent()], extend(at(7))),
        ] {
            let mut memory = Memory::default();
            let acts = heard.iter().map(|heard| memory.hear(mode, heard.clone(), seconds(0)));
            assert_eq!(acts.last(), Some(want), "{mode} {heard:?}");
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_is_late_and_then_over() {
        let terms = Terms::default();
        let silent = || Heard::Silent("no answer".to_owned());
        let why = || "no answer".to_owned();
        let mut memory = Memory::default();
        assert_eq!(memory.standing(Mode::Fence, terms, seconds(0)), None);
        memory.hear(Mode::Fence, silent(), seconds(0));
        assert_eq!(
            memory.standing(Mode::Fence, terms, seconds(0)),
            Some(Standing::Over(why()))
        );
        memory.hear(Mode::Fence, Heard::Renewed { granted: at(7) }, seconds(10));
        assert_eq!(memory.standing(Mode::Fence, terms, seconds(30)), Some(Standing::Held));
        memory.hear(Mode::Fence, silent(), seconds(12));
        assert_eq!(
            memory.standing(Mode::Fence, terms, seconds(18)),
            Some(Standing::Late(why()))
        );
        assert_eq!(
            memory.standing(Mode::Fence, terms, seconds(19)),
            Some(Standing::Over(why()))
        );
        assert_eq!(
            memory.standing(Mode::KeepServing, terms, seconds(19)),
            Some(Standing::Alone(why()))
        );
        memory.hear(Mode::Fence, Heard::Sealed { by: "op".into() }, seconds(20));
        assert_eq!(
            memory.standing(Mode::Fence, terms, seconds(20)),
            Some(Standing::Sealed("op".into()))
        );
    }
}
