//! What a router does with one request: a pure function of the slot's entry, the request and the agent's word.

use crate::epoch::Epoch;
use crate::ids::UnitName;
use crate::lookup::Entry;
use crate::promotion::Progress;
use crate::span::SpanState;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client.
    Client,
    /// The router of another unit, which resolved the slot already.
    Router {
        /// The epoch of the slot's span in that router's table.
        epoch: Epoch,
    },
}

/// What the decision needs to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Whether it may change something: anything but GET, HEAD and OPTIONS.
    pub write: bool,
    /// Who sent it.
    pub origin: Origin,
    /// Whether a read may be answered by the unit that it came to, whoever owns the slot: of a store with a single writer that
    /// has a member there.
    pub local: bool,
    /// Whether what this unit has is known to show what a read asks for.
    pub shows: Shows,
}

/// What is known of what a read here would show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shows {
    /// Nothing is asked of it: there is no bound of its age, and the client brings no place.
    Any,
    /// It is young enough, and shows the place that the client brings.
    Enough,
    /// It shows all that was committed when the read came: whoever may write said so since.
    All,
    /// That is not known.
    Unknown,
}

/// What a router knows of its unit's agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AgentSeen {
    /// Whether it is connected now.
    pub connected: bool,
    /// The highest table to which it said that the stores of the request's keyspace stand; [`Epoch::NEVER`] where it
    /// has not said.
    pub applied: Epoch,
    /// Whether it has been connected, and behind this span, for longer than a write of a span that the unit serves
    /// waits for it.
    pub late: bool,
}

/// Why a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The span is held or fenced: it is about to move, or to be given back.
    Leaving,
    /// The span is ours, and the agent has not said yet that the stores take its writes.
    Opening,
    /// The router that sent it knows a newer table than ours.
    Behind,
}

impl Wait {
    /// One word, for answers, logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Leaving => "Leaving",
            Self::Opening => "Opening",
            Self::Behind => "Behind",
        }
    }
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision<'e> {
    /// Pass it to the local backend.
    Serve,
    /// Pass it to the router of this unit.
    Forward(&'e UnitName),
    /// Hold it, and decide again when the table or the agent's word changes.
    Hold(Wait),
    /// Send it back to the router that it came from, which waits for this epoch and resolves again.
    Misdirected {
        /// The epoch.
        wait_for: Epoch,
    },
    /// Nobody owns the slot.
    Unowned,
    /// By this table the unit is the writer, but nobody can say that it still is: what it has may be too old.
    TooOld,
}

/// Decides for the router of `unit`, whose table stands at `table` and says `entry` of the request's slot.
///
/// A request of another router is never passed on to a third, and never held for a span that is leaving or gone: the
/// first router holds it. It is held here where it came ahead of the table or of the agent.
pub fn decide<'e>(unit: &UnitName, table: Epoch, entry: &'e Entry, asked: Asked, agent: AgentSeen) -> Decision<'e> {
    let from_router = match asked.origin {
        Origin::Router { epoch } if epoch > table => return Decision::Hold(Wait::Behind),
        Origin::Router { .. } => true,
        Origin::Client => false,
    };
    let unproven = !asked.write && asked.shows == Shows::Unknown;
    // Also before there is a writer, and while it moves. What another router sends on is for the owner.
    if asked.local && !asked.write && !from_router && !unproven {
        return Decision::Serve;
    }
    let Some(owner) = &entry.owner else {
        return Decision::Unowned;
    };
    let back = Decision::Misdirected { wait_for: entry.epoch };
    let leaving = asked.write && entry.state.holds_writes();
    match (owner == unit, leaving) {
        (true, false) if asked.write && !stores_take_writes(entry, agent) => Decision::Hold(Wait::Opening),
        (true, false) if unproven => Decision::TooOld,
        (true, false) => Decision::Serve,
        (_, true) | (false, _) if from_router => back,
        (_, true) => Decision::Hold(Wait::Leaving),
        (false, false) => Decision::Forward(owner),
    }
}

/// Whether the stores stand at the span's epoch, as far as is known. A unit without a connected agent goes on serving
/// what it served, and so does one whose agent is late, most likely because one store of the keyspace is broken: each
/// database decides then, and refuses what its fence must refuse. A span that is new to the unit needs the agent's word.
fn stores_take_writes(entry: &Entry, agent: AgentSeen) -> bool {
    let applied = agent.applied >= entry.epoch;
    match entry.state {
        SpanState::Serving => applied || !agent.connected || agent.late,
        SpanState::Opening => applied,
        SpanState::Unowned | SpanState::Held | SpanState::Fenced => false,
    }
}

/// What must be here so that a read at `unit` shows all that was written up to `place`, a client's: the log of which unit, up to
/// where; without a place, all that it has written. `None` where nobody here can know it.
///
/// Who `writes` shows whatever was ever acknowledged, if he still may: what came from a unit that was lost too.
pub fn to_show(unit: &UnitName, writes: bool, place: Option<&Progress>) -> Option<(UnitName, Option<Progress>)> {
    let named = place.and_then(|place| Some((place.log.split_once('/')?.0, place)));
    match named {
        Some((from, place)) if !writes || from == unit.as_str() => Some((UnitName::from(from), Some(place.clone()))),
        Some(_) | None if writes => Some((unit.clone(), None)),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: &str = "east-1";
    const OTHER: &str = "north-1";
    const APPLIED: AgentSeen = AgentSeen {
        connected: true,
        applied: Epoch::new(1, 10),
        late: false,
    };

    fn entry(owner: Option<&str>, state: SpanState) -> Entry {
        Entry {
            owner: owner.map(Into::into),
            state,
            epoch: Epoch::new(1, 10),
        }
    }

    fn ask(write: bool, origin: Origin) -> Asked {
        Asked {
            write,
            origin,
            local: false,
            shows: Shows::Any,
        }
    }

    #[test]
    fn each_owner_state_and_origin_has_its_decision() {
        use SpanState::{Fenced, Held, Opening, Serving, Unowned};
        let client = Origin::Client;
        let router = Origin::Router {
            epoch: Epoch::new(1, 10),
        };
        let back = Decision::Misdirected {
            wait_for: Epoch::new(1, 10),
        };
        let leaving = Decision::Hold(Wait::Leaving);
        let other = UnitName::from(OTHER);
        let forward = Decision::Forward(&other);
        // owner, state, write and read of a client, write and read of a router
        for (owner, state, client_write, client_read, router_write, router_read) in [
            (
                Some(US),
                Serving,
                Decision::Serve,
                Decision::Serve,
                Decision::Serve,
                Decision::Serve,
            ),
            (
                Some(US),
                Opening,
                Decision::Serve,
                Decision::Serve,
                Decision::Serve,
                Decision::Serve,
            ),
            (Some(US), Held, leaving, Decision::Serve, back, Decision::Serve),
            (Some(US), Fenced, leaving, Decision::Serve, back, Decision::Serve),
            (Some(OTHER), Serving, forward, forward, back, back),
            (Some(OTHER), Opening, forward, forward, back, back),
            (Some(OTHER), Held, leaving, forward, back, back),
            (Some(OTHER), Fenced, leaving, forward, back, back),
            (
                None,
                Unowned,
                Decision::Unowned,
                Decision::Unowned,
                Decision::Unowned,
                Decision::Unowned,
            ),
        ] {
            let entry = entry(owner, state);
            for (write, origin, want) in [
                (true, client, client_write),
                (false, client, client_read),
                (true, router, router_write),
                (false, router, router_read),
            ] {
                let got = decide(&US.into(), Epoch::new(1, 12), &entry, ask(write, origin), APPLIED);
                assert_eq!(got, want, "{owner:?} {state:?} write {write} from {origin:?}");
            }
        }
    }

    #[test]
    fn reads_that_may_be_answered_here_are_and_nothing_else_changes() {
        let router = Origin::Router {
            epoch: Epoch::new(1, 10),
        };
        for owner in [None, Some(US), Some(OTHER)] {
            for state in [
                SpanState::Serving,
                SpanState::Opening,
                SpanState::Held,
                SpanState::Fenced,
            ] {
                let entry = entry(owner, state);
                let got = |asked| decide(&US.into(), Epoch::new(1, 12), &entry, asked, APPLIED);
                let here = |shows, write, origin| Asked {
                    local: true,
                    shows,
                    ..ask(write, origin)
                };
                for shows in [Shows::Any, Shows::Enough] {
                    assert_eq!(
                        got(here(shows, false, Origin::Client)),
                        Decision::Serve,
                        "{owner:?} {state:?}"
                    );
                    for (write, origin) in [(true, Origin::Client), (true, router), (false, router)] {
                        let want = got(ask(write, origin));
                        let told = format!("{owner:?} {state:?} write {write} from {origin:?}");
                        assert_eq!(got(here(shows, write, origin)), want, "{told}");
                    }
                }
                assert_eq!(
                    got(here(Shows::Unknown, true, Origin::Client)),
                    got(ask(true, Origin::Client))
                );
            }
        }
    }

    #[test]
    fn what_may_be_too_old_goes_to_the_writer_and_a_writer_that_nobody_vouches_for_answers_nothing() {
        let router = Origin::Router {
            epoch: Epoch::new(1, 10),
        };
        let other = UnitName::from(OTHER);
        for local in [true, false] {
            for (owner, origin, want) in [
                (Some(OTHER), Origin::Client, Decision::Forward(&other)),
                (Some(US), Origin::Client, Decision::TooOld),
                (Some(US), router, Decision::TooOld),
                (None, Origin::Client, Decision::Unowned),
            ] {
                let asked = Asked {
                    local,
                    shows: Shows::Unknown,
                    ..ask(false, origin)
                };
                let state = owner.map_or(SpanState::Unowned, |_| SpanState::Serving);
                let entry = entry(owner, state);
                let got = decide(&US.into(), Epoch::new(1, 12), &entry, asked, APPLIED);
                assert_eq!(got, want, "{owner:?} {origin:?}, local {local}");
            }
        }
    }

    #[test]
    fn writes_wait_for_the_agents_word_and_reads_do_not() {
        let agent = |connected, epoch| AgentSeen {
            connected,
            applied: Epoch::new(1, epoch),
            late: false,
        };
        let late = AgentSeen {
            late: true,
            ..agent(true, 9)
        };
        let hold = Decision::Hold(Wait::Opening);
        for (state, agent, want) in [
            (SpanState::Opening, agent(true, 9), hold),
            (SpanState::Opening, agent(true, 10), Decision::Serve),
            (SpanState::Opening, agent(false, 9), hold),
            (SpanState::Opening, agent(false, 10), Decision::Serve),
            (SpanState::Opening, AgentSeen::default(), hold),
            (SpanState::Serving, agent(true, 9), hold),
            (SpanState::Serving, agent(true, 10), Decision::Serve),
            // An agent that stays behind stops nothing that was served, and opens nothing.
            (SpanState::Serving, late, Decision::Serve),
            (SpanState::Opening, late, hold),
            // Without an agent a unit goes on with what it serves.
            (SpanState::Serving, agent(false, 9), Decision::Serve),
            (SpanState::Serving, AgentSeen::default(), Decision::Serve),
        ] {
            let entry = entry(Some(US), state);
            let epoch = Epoch::new(1, 10);
            for origin in [Origin::Client, Origin::Router { epoch }] {
                assert_eq!(
                    decide(&US.into(), epoch, &entry, ask(true, origin), agent),
                    want,
                    "{state:?} {agent:?}"
                );
                let read = decide(&US.into(), epoch, &entry, ask(false, origin), agent);
                assert_eq!(read, Decision::Serve, "read, {state:?} {agent:?}");
            }
        }
    }

    #[test]
    fn a_request_ahead_of_the_table_waits_whatever_the_old_table_says() {
        let ahead = Origin::Router {
            epoch: Epoch::new(1, 13),
        };
        for (owner, state) in [
            (Some(OTHER), SpanState::Serving),
            (Some(US), SpanState::Held),
            (Some(US), SpanState::Serving),
            (None, SpanState::Unowned),
        ] {
            for write in [true, false] {
                let entry = entry(owner, state);
                let got = decide(&US.into(), Epoch::new(1, 12), &entry, ask(write, ahead), APPLIED);
                assert_eq!(got, Decision::Hold(Wait::Behind), "{owner:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_place_is_asked_for_where_it_was_written_and_the_writer_must_only_be_one_still() {
        let of = |log: &str| Progress {
            log: log.to_owned(),
            at: 7,
        };
        let (here, own, other) = (UnitName::from("b"), of("b/1"), of("a/1"));
        let all = Some((here.clone(), None));
        for (writes, place, want) in [
            (false, Some(&other), Some(("a".into(), Some(other.clone())))),
            (false, Some(&own), Some((here.clone(), Some(own.clone())))),
            (false, Some(&of("nameless")), None),
            (false, None, None),
            (true, Some(&own), Some((here.clone(), Some(own.clone())))),
            (true, Some(&other), all.clone()),
            (true, Some(&of("nameless")), all.clone()),
            (true, None, all),
        ] {
            assert_eq!(to_show(&here, writes, place), want, "{writes} {place:?}");
        }
    }
}
