//! A store of a unit that is in quarantine: lists what only it holds, and once a person has accepted that, makes its rows those
//! of the owners. It runs between two looks at the links, for both make and remove them.

use super::wish::{Target, Wish};
use super::{Store, timed};
use crate::facts::QuarantineFact;
use crate::failpoints::hit;
use crate::lost::Quarantine;
use multiactive_api::QuarantineState;
use multiactive_core::slots::SlotSet;
use multiactive_stores::driver::{Diverged, Peer};
use multiactive_stores::{Driver, Error};
use std::time::Duration;

/// How long listing what differs may take, and copying the rows of one peer.
const LIMIT: Duration = super::answers::COMPARE;

/// What the table asks of a store whose unit is in quarantine.
pub(super) fn asked(wish: &Wish, target: &Target) -> Option<Quarantine> {
    // What only this unit has of a store that several write comes to the others by itself.
    let table = wish.table.as_deref().filter(|_| !target.spec.is_shared())?;
    Quarantine::of(table, &target.spec.unit, &target.spec.keyspace.name)
}

/// Does what is left to do; whether nothing is.
pub(super) async fn work<D: Driver>(store: &Store<D>, target: &Target, asked: Option<&Quarantine>) -> bool {
    let Some(asked) = asked else {
        store.board.change(|facts| facts.quarantine = None);
        return true;
    };
    let facts = store.board.facts();
    let known = facts.quarantine.filter(|known| known.by == asked.by);
    let done = known.as_ref().is_some_and(|known| match known.state {
        QuarantineState::Rejoined => true,
        QuarantineState::Compared => !asked.accepted,
        QuarantineState::Comparing | QuarantineState::Rejoining => false,
    });
    if done {
        return true;
    }
    let begun = || QuarantineFact::begun(asked.by.clone());
    // Before it stands at the table that did it, its slots may be open and its log go on.
    let fenced = facts.applied.is_some_and(|applied| applied >= asked.since) && *store.judged.borrow();
    if !fenced || !asked.settled {
        note(store, known.unwrap_or_else(begun));
        return false;
    }
    match come_back(store, target, asked).await {
        Ok(fact) => {
            note(store, fact);
            true
        }
        Err(error) => {
            let mut fact = store.board.facts().quarantine.unwrap_or_else(begun);
            fact.message = Some(error.explain());
            tracing::warn!(by = %asked.by, error = error.explain(), "a unit in quarantine is not equal to the others yet");
            note(store, fact);
            false
        }
    }
}

fn note<D: Driver>(store: &Store<D>, fact: QuarantineFact) {
    store.board.change(|facts| facts.quarantine = Some(fact));
}

/// Lists, and where that was accepted copies.
async fn come_back<D: Driver>(store: &Store<D>, target: &Target, asked: &Quarantine) -> Result<QuarantineFact, Error> {
    if store.board.facts().quarantine.is_none_or(|known| known.by != asked.by) {
        note(store, QuarantineFact::begun(asked.by.clone()));
    }
    let slots_of = |peer: &Peer| {
        let mut owners = asked.owners.iter();
        owners
            .find(|(unit, _)| *unit == peer.unit)
            .map(|(_, slots)| slots.clone())
    };
    let owners: Vec<(Peer, SlotSet)> = target
        .peers
        .iter()
        .filter_map(|peer| Some((peer.clone(), slots_of(peer)?)))
        .collect();
    let verb = store.driver.diverged(&asked.by, &owners, LIMIT);
    let diverged = timed(&store.metrics, "diverged", verb).await?;
    if diverged.rejoined {
        return Ok(fact(asked, diverged, QuarantineState::Rejoined));
    }
    if !asked.accepted {
        return Ok(fact(asked, diverged, QuarantineState::Compared));
    }
    note(store, fact(asked, diverged.clone(), QuarantineState::Rejoining));
    for part in &asked.parts {
        timed(&store.metrics, "rejoin", store.driver.rejoin(part)).await?;
    }
    // Each of them, whatever became of the others: what one copy removes may be in the way of another.
    let mut failed = None;
    for peer in target.peers.iter().filter(|peer| !asked.lost.contains(&peer.unit)) {
        hit("copy-before");
        let copied = timed(&store.metrics, "reseed", store.driver.reseed(peer, LIMIT)).await;
        hit("copy-after");
        match copied {
            Ok(copied) => tracing::info!(
                from = %peer.unit, slots = %copied.slots, written = copied.written, removed = copied.removed,
                "rows are those of the owner"
            ),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    // Last of all: whoever asks again is told that nothing is left to do.
    hit("rejoin-before");
    timed(&store.metrics, "rejoin", store.driver.rejoin(&asked.by)).await?;
    hit("rejoin-after");
    Ok(fact(asked, diverged, QuarantineState::Rejoined))
}

fn fact(asked: &Quarantine, diverged: Diverged, state: QuarantineState) -> QuarantineFact {
    let Diverged {
        rows,
        span,
        first,
        unlisted,
        rejoined: _,
    } = diverged;
    QuarantineFact {
        by: asked.by.clone(),
        state,
        rows: unlisted.is_empty().then_some(rows),
        span,
        first,
        message: (!unlisted.is_empty()).then(|| unlisted.join("; ")),
    }
}
