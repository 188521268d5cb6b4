//! What the table holds of failovers, both ways. Times are kept in milliseconds; a bound is rounded up, never down.

use super::operation::{read_epoch, read_units, write_units};
use super::{ConvertError, number};
use crate::routing_table::{TableLease, TableQuarantined};
use crate::table_failover::{
    TableFailover, TableFencedBy, TableFound, TableHeard, TableLandmark, TableLoss, TableProgress, TableProof,
    TableRetargeted, TableStoreLoss, TableSuperseded, TableTail, TableWord,
};
use jiff::{SignedDuration, Timestamp};
use multiactive_core::promotion::{
    Accepted, Failover, FenceProof, FencedBy, Found, Heard, Landmark, Loss, Progress, Retargeted, StoreLoss,
    Superseded, Tail,
};
use multiactive_core::quarantine::{LeaseGrant, Quarantined};

type Read<T> = Result<T, ConvertError>;

fn read_moment(field: &str, text: &str) -> Read<Timestamp> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}

fn write_bound(field: &str, bound: SignedDuration) -> Read<i64> {
    let whole = bound.as_millis();
    let rest = i128::from(bound > SignedDuration::from_millis(number(field, whole)?));
    number(field, whole + rest)
}

fn write_bounds(field: &str, bound: Option<SignedDuration>) -> Read<Option<i64>> {
    bound.map(|bound| write_bound(field, bound)).transpose()
}

fn read_word(word: &TableWord) -> Accepted {
    let TableWord { by, reason } = word.clone();
    Accepted { by, reason }
}

fn write_word(accepted: &Accepted) -> TableWord {
    let Accepted { by, reason } = accepted.clone();
    TableWord { by, reason }
}

fn read_by(field: &str, by: TableFencedBy, word: Option<&TableWord>) -> Read<FencedBy> {
    match (by, word) {
        (TableFencedBy::Report, _) => Ok(FencedBy::Report),
        (TableFencedBy::Lease, _) => Ok(FencedBy::Lease),
        (TableFencedBy::Confirmed, Some(TableWord { by, reason })) => Ok(FencedBy::Confirmed {
            by: by.clone(),
            reason: reason.clone(),
        }),
        (TableFencedBy::Hook, Some(TableWord { by, reason })) => Ok(FencedBy::Hook {
            by: by.clone(),
            reason: reason.clone(),
        }),
        (TableFencedBy::Confirmed | TableFencedBy::Hook, None) => {
            Err(ConvertError::new(format!("{field}.word"), "missing"))
        }
    }
}

fn write_by(by: &FencedBy) -> (TableFencedBy, Option<TableWord>) {
    match by {
        FencedBy::Report => (TableFencedBy::Report, None),
        FencedBy::Lease => (TableFencedBy::Lease, None),
        FencedBy::Confirmed { by, reason } => {
            let (by, reason) = (by.clone(), reason.clone());
            (TableFencedBy::Confirmed, Some(TableWord { by, reason }))
        }
        FencedBy::Hook { by, reason } => {
            let (by, reason) = (by.clone(), reason.clone());
            (TableFencedBy::Hook, Some(TableWord { by, reason }))
        }
    }
}

pub(super) fn read_failover(field: &str, stored: &TableFailover) -> Read<Failover> {
    let TableFailover {
        lost,
        ranges,
        max_data_loss_ms,
        named,
        fences,
        superseded,
        fence_term,
        fence_epoch,
        proof,
        loss,
        retargeted,
        tail,
    } = stored;
    let retargeted = retargeted.iter().enumerate().map(|(index, entry)| {
        let TableRetargeted {
            from,
            to,
            why,
            at,
            tail,
        } = entry;
        Ok(Retargeted {
            from: from.as_str().into(),
            to: to.as_str().into(),
            why: why.clone(),
            at: read_moment(&format!("{field}.retargeted[{index}].at"), at)?,
            tail: *tail,
        })
    });
    let tail = tail.as_ref().map(|tail| read_tail(&format!("{field}.tail"), tail));
    let proof = proof.as_ref().map(|proof| read_proof(&format!("{field}.proof"), proof));
    let loss = loss.as_ref().map(|loss| read_loss(&format!("{field}.loss"), loss));
    Ok(Failover {
        lost: lost.as_str().into(),
        ranges: ranges.clone(),
        max_data_loss: SignedDuration::from_millis(*max_data_loss_ms),
        named: *named,
        fences: *fences,
        superseded: superseded
            .as_ref()
            .map(|TableSuperseded { uid, sources, behind }| Superseded {
                uid: uid.as_str().into(),
                sources: read_units(sources),
                behind: read_units(behind),
            }),
        fence: read_epoch(&format!("{field}.fence"), *fence_term, *fence_epoch)?,
        proof: proof.transpose()?,
        loss: loss.transpose()?,
        retargeted: retargeted.collect::<Read<_>>()?,
        tail: tail.transpose()?,
    })
}

pub(super) fn write_failover(field: &str, failover: &Failover) -> Read<TableFailover> {
    let Failover {
        lost,
        ranges,
        max_data_loss,
        named,
        fences,
        superseded,
        fence,
        proof,
        loss,
        retargeted,
        tail,
    } = failover;
    let retargeted = retargeted.iter().map(
        |Retargeted {
             from,
             to,
             why,
             at,
             tail,
         }| TableRetargeted {
            from: from.to_string(),
            to: to.to_string(),
            why: why.clone(),
            at: at.to_string(),
            tail: *tail,
        },
    );
    let proof = proof
        .as_ref()
        .map(|proof| write_proof(&format!("{field}.proof"), proof));
    let loss = loss.as_ref().map(|loss| write_loss(&format!("{field}.loss"), loss));
    Ok(TableFailover {
        lost: lost.to_string(),
        ranges: ranges.clone(),
        max_data_loss_ms: number(&format!("{field}.maxDataLossMs"), max_data_loss.as_millis())?,
        named: *named,
        fences: *fences,
        superseded: superseded
            .as_ref()
            .map(|Superseded { uid, sources, behind }| TableSuperseded {
                uid: uid.to_string(),
                sources: write_units(sources),
                behind: write_units(behind),
            }),
        fence_term: fence.term.into(),
        fence_epoch: number(&format!("{field}.fenceEpoch"), fence.epoch)?,
        proof: proof.transpose()?,
        loss: loss.transpose()?,
        retargeted: retargeted.collect(),
        tail: tail.as_ref().map(write_tail),
    })
}

fn read_tail(field: &str, TableTail { from, stores }: &TableTail) -> Read<Tail> {
    let stores = stores.iter().enumerate().map(|(index, stored)| {
        let TableProgress { store, log, at } = stored;
        let invalid = |error| ConvertError::new(format!("{field}.stores[{index}].at"), error);
        let progress = Progress {
            log: log.clone(),
            at: at.parse().map_err(invalid)?,
        };
        Ok((store.as_str().into(), progress))
    });
    Ok(Tail {
        from: from.as_str().into(),
        stores: stores.collect::<Read<_>>()?,
    })
}

fn write_tail(Tail { from, stores }: &Tail) -> TableTail {
    let stores = stores.iter().map(|(store, progress)| TableProgress {
        store: store.to_string(),
        log: progress.log.clone(),
        at: progress.at.to_string(),
    });
    TableTail {
        from: from.to_string(),
        stores: stores.collect(),
    }
}

fn read_proof(field: &str, stored: &TableProof) -> Read<FenceProof> {
    let TableProof {
        by,
        word,
        at,
        landmarks,
        heard,
    } = stored;
    let landmarks = landmarks.iter().enumerate().map(|(index, landmark)| {
        let TableLandmark {
            store,
            log,
            position,
            until_end_ms,
        } = landmark;
        let at = position.parse();
        Ok(Landmark {
            store: store.as_str().into(),
            progress: Progress {
                log: log.clone(),
                at: at.map_err(|error| ConvertError::new(format!("{field}.landmarks[{index}].position"), error))?,
            },
            until_end: SignedDuration::from_millis(*until_end_ms),
        })
    });
    let heard = heard.iter().map(|TableHeard { unit, until_end_ms }| Heard {
        unit: unit.as_str().into(),
        until_end: SignedDuration::from_millis(*until_end_ms),
    });
    Ok(FenceProof {
        by: read_by(field, *by, word.as_ref())?,
        at: read_moment(&format!("{field}.at"), at)?,
        landmarks: landmarks.collect::<Read<_>>()?,
        heard: heard.collect(),
    })
}

fn write_proof(field: &str, proof: &FenceProof) -> Read<TableProof> {
    let FenceProof {
        by,
        at,
        landmarks,
        heard,
    } = proof;
    let landmarks = landmarks.iter().map(|landmark| {
        let Landmark {
            store,
            progress,
            until_end,
        } = landmark;
        Ok(TableLandmark {
            store: store.to_string(),
            log: progress.log.clone(),
            position: progress.at.to_string(),
            until_end_ms: write_bound(field, *until_end)?,
        })
    });
    let heard = heard.iter().map(|Heard { unit, until_end }| {
        Ok(TableHeard {
            unit: unit.to_string(),
            until_end_ms: write_bound(field, *until_end)?,
        })
    });
    let (by, word) = write_by(by);
    Ok(TableProof {
        by,
        word,
        at: at.to_string(),
        landmarks: landmarks.collect::<Read<_>>()?,
        heard: heard.collect::<Read<_>>()?,
    })
}

pub(super) fn read_loss(field: &str, stored: &TableLoss) -> Read<Loss> {
    let TableLoss {
        fenced_by,
        word,
        stores,
        bound_ms,
        given_up,
        accepted,
        found,
    } = stored;
    let stores = stores.iter().map(|TableStoreLoss { store, bound_ms }| StoreLoss {
        store: store.as_str().into(),
        bound: bound_ms.map(SignedDuration::from_millis),
    });
    let found = found.as_ref().map(|TableFound { rows, span_ms, at }| {
        Ok::<_, ConvertError>(Found {
            rows: number(&format!("{field}.found.rows"), *rows)?,
            span: span_ms.map(SignedDuration::from_millis),
            at: read_moment(&format!("{field}.found.at"), at)?,
        })
    });
    Ok(Loss {
        fenced_by: read_by(field, *fenced_by, word.as_ref())?,
        stores: stores.collect(),
        bound: bound_ms.map(SignedDuration::from_millis),
        given_up: read_units(given_up),
        accepted: accepted.as_ref().map(|TableWord { by, reason }| Accepted {
            by: by.clone(),
            reason: reason.clone(),
        }),
        found: found.transpose()?,
    })
}

pub(super) fn write_loss(field: &str, loss: &Loss) -> Read<TableLoss> {
    let Loss {
        fenced_by,
        stores,
        bound,
        given_up,
        accepted,
        found,
    } = loss;
    let stores = stores.iter().map(|StoreLoss { store, bound }| {
        Ok(TableStoreLoss {
            store: store.to_string(),
            bound_ms: write_bounds(field, *bound)?,
        })
    });
    let found = found.as_ref().map(|Found { rows, span, at }| {
        Ok::<_, ConvertError>(TableFound {
            rows: number(&format!("{field}.found.rows"), *rows)?,
            span_ms: write_bounds(field, *span)?,
            at: at.to_string(),
        })
    });
    let (fenced_by, word) = write_by(fenced_by);
    Ok(TableLoss {
        fenced_by,
        word,
        stores: stores.collect::<Read<_>>()?,
        bound_ms: write_bounds(field, *bound)?,
        given_up: write_units(given_up),
        accepted: accepted.as_ref().map(write_word),
        found: found.transpose()?,
    })
}

pub(super) fn read_quarantined(field: &str, stored: &TableQuarantined) -> Read<Quarantined> {
    let TableQuarantined {
        unit,
        term,
        epoch,
        by,
        name,
        accepted,
    } = stored;
    Ok(Quarantined {
        unit: unit.as_str().into(),
        since: read_epoch(field, *term, *epoch)?,
        by: by.as_str().into(),
        name: name.clone(),
        accepted: accepted.as_ref().map(read_word),
    })
}

pub(super) fn write_quarantined(field: &str, known: &Quarantined) -> Read<TableQuarantined> {
    let Quarantined {
        unit,
        since,
        by,
        name,
        accepted,
    } = known;
    Ok(TableQuarantined {
        unit: unit.to_string(),
        term: since.term.into(),
        epoch: number(&format!("{field}.epoch"), since.epoch)?,
        by: by.to_string(),
        name: name.clone(),
        accepted: accepted.as_ref().map(write_word),
    })
}

pub(super) fn read_lease(field: &str, stored: &TableLease) -> Read<LeaseGrant> {
    let TableLease { unit, term, epoch } = stored;
    Ok(LeaseGrant {
        unit: unit.as_str().into(),
        at: read_epoch(field, *term, *epoch)?,
    })
}

pub(super) fn write_lease(field: &str, grant: &LeaseGrant) -> Read<TableLease> {
    let LeaseGrant { unit, at } = grant;
    Ok(TableLease {
        unit: unit.to_string(),
        term: at.term.into(),
        epoch: number(&format!("{field}.epoch"), at.epoch)?,
    })
}
