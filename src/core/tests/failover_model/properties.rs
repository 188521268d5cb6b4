//! The invariants of RELIABILITY that the model checks, by their numbers there.

use super::model::{Model, Pass};
use super::operator;
use super::world::{EAST, NORTH, SOUTH, UNITS, World, place};
use jiff::SignedDuration;
use multiactive_core::promotion::{FencedBy, Loss, Move, Outcome, Step, WaitFor};
use multiactive_core::quarantine::is_quarantined;
use stateright::Property;

pub const ONE_WRITER: &str = "1: a slot can be written in one unit at most, and only where the table has it";
pub const BOUND: &str = "3: no more is lost than the bound says";
pub const EPOCHS_GROW: &str = "4: epochs only grow";
pub const SEALED: &str = "the owner changes only while the lost unit's lease is sealed";
pub const ENDS: &str = "7: every failover ends, or says which decision it needs";
pub const QUARANTINE: &str = "11: who lost its slots writes nothing before it has rejoined";
pub const NO_LEAK: &str = "nothing of a lost unit arrives after the commit at who has cut it off";
pub const MOST: &str = "the new owner has most of the lost unit's log, or a person gave the rest up";
pub const BACK: &str = "who has its slots back can serve them again";

fn can_write(world: &World, slot: usize) -> Vec<usize> {
    (EAST..=SOUTH).filter(|unit| world.units[*unit].writes(slot)).collect()
}

/// The losses that were measured, with the lost unit and who got its slots.
fn losses(world: &World) -> Vec<(&Loss, usize, usize)> {
    let running = world
        .ledger
        .get()
        .operations
        .iter()
        .filter(|op| op.step >= Step::Commit);
    let running = running.filter_map(|op| {
        let failover = op.failover.as_ref()?;
        Some((
            failover.loss.as_ref()?,
            place(failover.lost.as_str()),
            place(op.target.as_str()),
        ))
    });
    running.collect()
}

fn finished<'a>(world: &'a World, wanted: impl Fn(&Outcome, &Option<Loss>) -> bool + 'a) -> bool {
    world
        .ledger
        .get()
        .finished
        .iter()
        .any(|done| wanted(&done.outcome, &done.loss))
}

fn by(loss: &Option<Loss>, wanted: impl Fn(&FencedBy) -> bool) -> bool {
    loss.as_ref().is_some_and(|loss| wanted(&loss.fenced_by))
}

fn ended(model: &Model, world: &World) -> bool {
    let table = world.ledger.get();
    let asked = usize::from(world.asked) == model.lost.len();
    // A second failover is asked for only where the first left something to lose.
    let moot = model.north_dies && world.units[NORTH].up;
    let stands = table.operations.iter().all(|op| {
        let movement = operator::move_of(model, world, op, Pass::Late);
        matches!(movement, Move::Wait(WaitFor::Decision { .. }))
    });
    let moved = (0..model.slots).all(|slot| !world.ledger.span(slot).is_owned_by(&UNITS[EAST].into()));
    stands && (asked || moot || world.asked > 0 && moved)
}

/// Who was not waited for when that loss was measured.
fn behind(world: &World, lost: usize, unit: usize) -> bool {
    let mut operations = world.ledger.get().operations.iter();
    let of_lost =
        |lost_of: Option<&multiactive_core::ids::UnitName>| lost_of.is_some_and(|name| name.as_str() == UNITS[lost]);
    operations.any(|op| of_lost(op.lost()) && op.behind.contains(&UNITS[unit].into()))
}

pub fn all(model: &Model) -> Vec<Property<Model>> {
    let mut all = vec![
        Property::always(ONE_WRITER, |model: &Model, world: &World| {
            (0..model.slots).all(|slot| match can_write(world, slot).as_slice() {
                [] => true,
                [one] => {
                    let owner = world.ledger.span(slot).owner.as_ref();
                    owner.is_some_and(|owner| owner.as_str() == UNITS[*one])
                }
                [_, _, ..] => false,
            })
        }),
        Property::always(BOUND, |_, world: &World| {
            losses(world).iter().all(|(loss, lost, target)| {
                let missing = world.units[*lost].log - world.units[*target].applied[*lost];
                loss.bound
                    .is_none_or(|bound| SignedDuration::from_secs(i64::from(missing)) <= bound)
            })
        }),
        Property::always(MOST, |_, world: &World| {
            losses(world).iter().all(|(loss, lost, target)| {
                let has = |unit: usize| world.units[unit].applied[*lost];
                let others = (EAST..=SOUTH).filter(|unit| unit != lost && !behind(world, *lost, *unit));
                !loss.given_up.is_empty() && loss.accepted.is_some()
                    || others.into_iter().all(|unit| has(unit) <= has(*target))
            })
        }),
        Property::always(EPOCHS_GROW, |_, world: &World| !world.regressed),
        Property::always(SEALED, |_, world: &World| {
            (EAST..=SOUTH)
                .all(|unit| !is_quarantined(world.ledger.get(), &UNITS[unit].into()) || world.leases[unit].sealed)
        }),
        Property::always(QUARANTINE, |model: &Model, world: &World| {
            // Until its lease is over it may go on with slots that nobody took.
            let over = world.leases[EAST].sealed && world.ended[EAST] && !model.keep_serving;
            let quarantined = is_quarantined(world.ledger.get(), &UNITS[EAST].into());
            let lost = |slot: usize| !world.ledger.span(slot).is_owned_by(&UNITS[EAST].into());
            let rejoined = model.rejoins && !quarantined;
            let known = quarantined || model.rejoins || !(0..model.slots).any(lost);
            known
                && (0..model.slots)
                    .all(|slot| !world.units[EAST].writes(slot) || rejoined || !(over && quarantined || lost(slot)))
        }),
        Property::always(NO_LEAK, |_, world: &World| !world.leaked),
        Property::eventually(ENDS, ended),
        // What must be possible, or the rest would say nothing.
        Property::sometimes("a failover succeeds", |_, world: &World| {
            finished(world, |outcome, _| *outcome == Outcome::Succeeded)
        }),
        Property::sometimes(
            "the unit is alive and fences itself: nothing is lost",
            |_, world: &World| {
                finished(world, |_, loss| {
                    by(loss, |by| *by == FencedBy::Report)
                        && loss
                            .as_ref()
                            .is_some_and(|loss| loss.bound == Some(SignedDuration::ZERO))
                })
            },
        ),
    ];
    if model.writes > 0 {
        all.push(Property::sometimes(
            "a write is lost, within its bound",
            |_, world: &World| {
                losses(world)
                    .iter()
                    .any(|(_, lost, target)| world.units[*lost].log > world.units[*target].applied[*lost])
            },
        ));
    }
    if model.keep_serving {
        all.push(match model.hook {
            true => Property::sometimes("the hook's word is the proof", |_, world: &World| {
                finished(world, |_, loss| by(loss, |by| matches!(by, FencedBy::Hook { .. })))
            }),
            false => Property::sometimes("a person's word is the proof", |_, world: &World| {
                finished(world, |_, loss| by(loss, |by| matches!(by, FencedBy::Confirmed { .. })))
            }),
        });
        all.push(Property::sometimes(
            "it waits for a person's word",
            |model: &Model, world: &World| {
                let mut operations = world.ledger.get().operations.iter();
                operations.any(|op| {
                    let movement = operator::move_of(model, world, op, Pass::Late);
                    op.step == Step::Fence && matches!(movement, Move::Wait(WaitFor::Decision { .. }))
                })
            },
        ));
    } else {
        all.push(Property::sometimes(
            "the end of the lease is the proof",
            |_, world: &World| finished(world, |_, loss| by(loss, |by| *by == FencedBy::Lease)),
        ));
    }
    if model.aborts {
        all.push(Property::sometimes(BACK, |_, world: &World| {
            let aborted = finished(world, |outcome, _| matches!(outcome, Outcome::Aborted { .. }));
            let sealed_once = world.leases[EAST].at > multiactive_core::epoch::Epoch::NEVER;
            aborted && sealed_once && world.ledger.get().operations.is_empty() && world.units[EAST].writes(0)
        }));
    }
    if model.north_dies {
        all.push(Property::sometimes(
            "the target dies before it opens, and a third unit serves",
            |_, world: &World| {
                finished(world, |outcome, _| matches!(outcome, Outcome::Failed { .. })) && world.units[SOUTH].writes(0)
            },
        ));
    }
    if model.rejoins {
        all.push(Property::sometimes(
            "a unit that rejoined may hold its lease again",
            |_, world: &World| {
                let table = world.ledger.get();
                let moved = !world.ledger.span(0).is_owned_by(&UNITS[EAST].into());
                moved
                    && !is_quarantined(table, &UNITS[EAST].into())
                    && world.units[EAST].window
                    && world.leases[EAST].at > multiactive_core::epoch::Epoch::NEVER
            },
        ));
    }
    if model.slots > 1 {
        all.push(Property::sometimes(
            "each slot goes to its own failover unit",
            |_, world: &World| world.units[NORTH].writes(0) && world.units[SOUTH].writes(1),
        ));
        if model.aborts {
            all.push(Property::sometimes(
                "one part moves and the other is given back, fenced",
                |_, world: &World| {
                    let table = world.ledger.get();
                    let mixed =
                        !table.owned_by(&UNITS[EAST].into()).is_empty() && is_quarantined(table, &UNITS[EAST].into());
                    mixed && table.operations.is_empty()
                },
            ));
        }
    } else if model.named {
        all.push(Property::sometimes(
            "the target that somebody named opens with what another had received more",
            |_, world: &World| {
                let handed_on = |op: &multiactive_core::promotion::Operation| {
                    let tail = op.failover.as_ref().and_then(|failover| failover.tail.as_ref());
                    tail.is_some() && op.step == Step::Settle
                };
                world.ledger.get().operations.iter().any(handed_on)
            },
        ));
    } else if model.late {
        all.push(Property::sometimes(
            "the target is changed for one that received more",
            |_, world: &World| {
                let retargeted = |op: &multiactive_core::promotion::Operation| {
                    op.target.as_str() == UNITS[SOUTH] && op.lost().is_some_and(|lost| lost.as_str() == UNITS[EAST])
                };
                world.ledger.get().operations.iter().any(retargeted)
            },
        ));
    }
    all
}
