//! The slots as the server has them, and what is asked of them: which to close, to open, or to leave open at a newer epoch.
//! Pure, but for reading them.

use super::connect::Session;
use crate::driver::Grant;
use crate::error::Error;
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::slots::Slot;

/// A slot on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    slot: Slot,
    /// Whether it takes writes.
    serves: bool,
    /// Whether it was last brought to open; a restart closes it all the same.
    is_open: bool,
    /// The newest epoch that it was brought to, whether that changed it or not.
    epoch: Epoch,
}

/// Consecutive slots of which the same is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Slot,
    pub(crate) last: Slot,
    pub(crate) epoch: Epoch,
    pub(crate) op: Option<OperationUid>,
    /// Whether they were last brought to open: a restart closed them.
    pub(crate) again: bool,
}

/// What is to be done about slots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) closing: Vec<Run>,
    pub(crate) opening: Vec<Run>,
    /// Open, and they stay so, but of an older table.
    pub(crate) keeping: Vec<Run>,
    /// Closed already, by an older epoch.
    pub(crate) stamping: Vec<Run>,
    /// How many of the slots are there.
    pub(crate) found: usize,
    /// The newest epoch of a slot that forbids what is asked.
    pub(crate) forbidden: Option<Epoch>,
}

impl Plan {
    /// Whether every slot that is asked for is there.
    pub(crate) fn is_whole(&self, grants: &[Grant]) -> bool {
        self.found == grants.iter().map(|grant| grant.slots.len()).sum::<usize>()
    }
}

/// How a plan treats epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A table: a closed slot may be of a newer epoch; a restart's are opened again by the same.
    Table,
    /// The fence of an operation: no slot may be of a newer epoch.
    Fence,
}

pub(crate) fn plan(held: &[Held], grants: &[Grant], by: By) -> Plan {
    let mut plan = Plan::default();
    for grant in grants {
        for slot in grant.slots.iter() {
            let Ok(at) = held.binary_search_by_key(&slot, |held| held.slot) else {
                continue;
            };
            let (is, asked) = (held[at], grant.epoch);
            plan.found += 1;
            let forbids = match (by, grant.open) {
                (By::Table, true) => !is.serves && (is.epoch > asked || (!is.is_open && is.epoch == asked)),
                (By::Table, false) => is.is_open && is.epoch > asked,
                (By::Fence, _) => is.epoch > asked,
            };
            if forbids {
                plan.forbidden = plan.forbidden.max(Some(is.epoch));
            }
            let runs = match (grant.open, is.serves, is.is_open) {
                (true, true, _) if is.epoch < asked => &mut plan.keeping,
                (true, true, _) => continue,
                (true, false, _) => &mut plan.opening,
                (false, _, true) | (false, true, _) => &mut plan.closing,
                (false, false, false) if is.epoch < asked => &mut plan.stamping,
                (false, false, false) => continue,
            };
            extend(runs, is, grant);
        }
    }
    plan
}

fn extend(runs: &mut Vec<Run>, is: Held, grant: &Grant) {
    let slot = is.slot;
    if let Some(run) = runs.last_mut()
        && run.last.checked_add(1) == Some(slot)
        && run.epoch == grant.epoch
        && run.op == grant.brought_by
        && run.again == is.is_open
    {
        run.last = slot;
        return;
    }
    runs.push(Run {
        first: slot,
        last: slot,
        epoch: grant.epoch,
        op: grant.brought_by.clone(),
        again: is.is_open,
    });
}

/// How many slots there are in runs.
pub(crate) fn count(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.last - run.first) + 1).sum()
}

/// The slots of which something is asked, in order, and what is between them. A plain read: it waits for nobody.
pub(crate) async fn read(session: &mut Session<'_>, grants: &[Grant]) -> Result<Vec<Held>, Error> {
    let ranges = || grants.iter().flat_map(|grant| grant.slots.ranges());
    let (first, last) = (ranges().map(|range| range.0).min(), ranges().map(|range| range.1).max());
    let sql = "SELECT s.slot, s.open, t.open, t.term, t.epoch FROM multiactive.slot s
               JOIN multiactive.stamp t ON t.slot = s.slot WHERE s.slot BETWEEN ? AND ? ORDER BY s.slot";
    let rows: Vec<(Slot, bool, bool, u32, u64)> = session.rows("reading slots", sql, (first, last)).await?;
    let held = |(slot, serves, is_open, term, epoch)| Held {
        slot,
        serves,
        is_open,
        epoch: Epoch::new(term, epoch),
    };
    Ok(rows.into_iter().map(held).collect())
}

/// Lets slots take writes, or not, by their locked rows.
pub(crate) async fn set(session: &mut Session<'_>, run: &Run, open: bool) -> Result<u64, Error> {
    let sql = session.dialect().set_slots;
    let sql = sql
        .replace("$first$", &run.first.to_string())
        .replace("$last$", &run.last.to_string());
    session.change("changing slots", &sql, (open,)).await
}

/// Notes how far the log has come: slots are being closed, and none of their writers is in flight.
pub(crate) async fn note_closed(session: &mut Session<'_>, runs: &[Run], written: u64) -> Result<(), Error> {
    let sql = "UPDATE multiactive.stamp SET closed = ? WHERE slot BETWEEN ? AND ?";
    for run in runs {
        session
            .change("noting where slots closed", sql, (written, run.first, run.last))
            .await?;
    }
    Ok(())
}

/// Brings slots to an epoch: open or not.
pub(crate) async fn stamp(session: &mut Session<'_>, runs: &[Run], open: bool) -> Result<(), Error> {
    let sql = "UPDATE multiactive.stamp SET open = ?, term = ?, epoch = ? WHERE slot BETWEEN ? AND ?";
    for run in runs {
        let params = (open, run.epoch.term, run.epoch.epoch, run.first, run.last);
        session.change("stamping slots", sql, params).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::slots::SlotSet;

    const AT: Epoch = Epoch::new(1, 5);
    const OLDER: Epoch = Epoch::new(1, 4);
    const NEWER: Epoch = Epoch::new(2, 1);

    fn grant(open: bool) -> Grant {
        Grant {
            slots: SlotSet::range(0, 0),
            open,
            epoch: AT,
            brought_by: None,
        }
    }

    #[test]
    fn a_slot_is_changed_by_a_newer_epoch_only_and_opened_again_by_the_same_after_a_restart() {
        #[derive(Debug, PartialEq)]
        enum Want {
            Close,
            Open,
            Keep,
            Stamp,
            Leave,
            Forbid,
        }
        let table = |open, serves, is_open, epoch, want| (By::Table, open, serves, is_open, epoch, want);
        let fence = |serves, is_open, epoch, want| (By::Fence, false, serves, is_open, epoch, want);
        for (by, open, serves, is_open, epoch, want) in [
            table(true, false, false, OLDER, Want::Open),
            table(true, false, false, AT, Want::Forbid),
            table(true, false, true, AT, Want::Open),
            table(true, false, true, NEWER, Want::Forbid),
            table(true, true, true, AT, Want::Leave),
            table(true, true, true, OLDER, Want::Keep),
            table(true, true, true, NEWER, Want::Leave),
            table(false, true, true, AT, Want::Close),
            table(false, true, true, NEWER, Want::Forbid),
            table(false, false, true, OLDER, Want::Close),
            table(false, false, false, NEWER, Want::Leave),
            table(false, false, false, OLDER, Want::Stamp),
            fence(true, true, AT, Want::Close),
            fence(true, true, NEWER, Want::Forbid),
            fence(false, false, NEWER, Want::Forbid),
            fence(false, false, OLDER, Want::Stamp),
            fence(false, false, AT, Want::Leave),
        ] {
            let held = [Held {
                slot: 0,
                serves,
                is_open,
                epoch,
            }];
            let plan = plan(&held, &[grant(open)], by);
            let one = |runs: &[Run]| runs.len() == 1;
            let got = match () {
                () if plan.forbidden.is_some() => Want::Forbid,
                () if one(&plan.closing) => Want::Close,
                () if one(&plan.opening) => Want::Open,
                () if one(&plan.keeping) => Want::Keep,
                () if one(&plan.stamping) => Want::Stamp,
                () => Want::Leave,
            };
            assert_eq!(
                got, want,
                "{by:?} open {open}: serves {serves}, open {is_open} at {epoch}"
            );
        }
    }

    #[test]
    fn neighbours_of_which_the_same_is_asked_are_one_run() {
        let held: Vec<_> = (0..10)
            .map(|slot| Held {
                slot,
                serves: true,
                is_open: true,
                epoch: OLDER,
            })
            .collect();
        let other = Grant {
            slots: SlotSet::range(8, 20),
            epoch: NEWER,
            ..grant(false)
        };
        let grants = [
            Grant {
                slots: SlotSet::range(0, 3).union(&SlotSet::range(5, 7)),
                ..grant(false)
            },
            other,
        ];
        let plan = plan(&held, &grants, By::Table);
        let got: Vec<_> = plan.closing.iter().map(|run| (run.first, run.last)).collect();
        assert_eq!(got, [(0, 3), (5, 7), (8, 9)]);
        assert_eq!((count(&plan.closing), plan.found), (9, 9));
    }
}
