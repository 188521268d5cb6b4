//! The owner of a store with a single writer, both ways: stored by its name, in the core a keyspace of one slot.

use super::operation::read_epoch;
use super::{ConvertError, number};
use crate::routing_table::{TableWriter, WriterState};
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::keyspace::Keyspace;
use multiactive_core::slots::Slot;
use multiactive_core::span::{Span, SpanState};
use multiactive_core::table::KeyspaceTable;

impl From<WriterState> for SpanState {
    fn from(state: WriterState) -> Self {
        match state {
            WriterState::Unowned => Self::Unowned,
            WriterState::Serving => Self::Serving,
            WriterState::Held => Self::Held,
            WriterState::Fenced => Self::Fenced,
            WriterState::Opening => Self::Opening,
        }
    }
}

impl From<SpanState> for WriterState {
    fn from(state: SpanState) -> Self {
        match state {
            SpanState::Unowned => Self::Unowned,
            SpanState::Serving => Self::Serving,
            SpanState::Held => Self::Held,
            SpanState::Fenced => Self::Fenced,
            SpanState::Opening => Self::Opening,
        }
    }
}

/// `units` are those of the table.
pub(super) fn read_writer(
    field: &str,
    stored: &TableWriter,
    units: &[UnitName],
) -> Result<KeyspaceTable, ConvertError> {
    let TableWriter {
        store,
        owner,
        state,
        term,
        epoch,
    } = stored;
    let owner: Option<UnitName> = owner.as_deref().map(UnitName::from);
    let wrong = |message: &str| ConvertError::new(format!("{field}.owner"), message);
    if owner.is_none() != (*state == WriterState::Unowned) {
        return Err(wrong("it is absent exactly where the state is Unowned"));
    }
    if owner.as_ref().is_some_and(|owner| !units.contains(owner)) {
        return Err(wrong("it is not among the table's units"));
    }
    let definition = Keyspace::single_writer().definition();
    Ok(KeyspaceTable {
        name: KeyspaceName::of_writer(&store.as_str().into()),
        slots: 1,
        definition: Some(definition),
        spans: vec![Span {
            first: 0,
            last: 0,
            owner,
            state: (*state).into(),
            epoch: read_epoch(field, *term, *epoch)?,
        }],
    })
}

pub(super) fn write_writer(field: &str, known: &KeyspaceTable) -> Result<TableWriter, ConvertError> {
    let odd = |message: &str| ConvertError::new(field, message);
    let store = known.name.writer_of().ok_or_else(|| odd("it is no store's"))?;
    let [span] = known.spans.as_slice() else {
        return Err(odd("it has one slot"));
    };
    if (span.first, span.last) != (0 as Slot, 0 as Slot) {
        return Err(odd("its only slot is 0"));
    }
    Ok(TableWriter {
        store: store.to_string(),
        owner: span.owner.as_ref().map(ToString::to_string),
        state: span.state.into(),
        term: span.epoch.term.into(),
        epoch: number(&format!("{field}.epoch"), span.epoch.epoch)?,
    })
}
