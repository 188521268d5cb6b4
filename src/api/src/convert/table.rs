//! The RoutingTable, both ways. Writing can fail too: a span whose owner `units` does not list has no text, and must
//! never be published.

use super::failover::{read_lease, read_quarantined, write_lease, write_quarantined};
use super::operation::{read_epoch, read_finished, read_operation, write_finished, write_operation};
use super::writer::{read_writer, write_writer};
use super::{ConvertError, number};
use crate::routing_table::{RoutingTableSpec, TableFencing, TableKeyspace};
use multiactive_core::ids::UnitName;
use multiactive_core::span;
use multiactive_core::table::{Fencing, KeyspaceTable, RoutingTable, TableUnit};

impl TryFrom<&RoutingTableSpec> for RoutingTable {
    type Error = ConvertError;

    fn try_from(stored: &RoutingTableSpec) -> Result<Self, ConvertError> {
        let RoutingTableSpec {
            term,
            epoch,
            units,
            keyspaces,
            writers,
            operations,
            finished,
            quarantined,
            leases,
            fencing,
        } = stored;
        let names: Vec<UnitName> = units.iter().map(|unit| unit.name.as_str().into()).collect();
        let keyspaces = keyspaces.iter().enumerate().map(|(index, keyspace)| {
            let slots = number(&format!("spec.keyspaces[{index}].slots"), keyspace.slots)?;
            let spans = span::decode(&keyspace.spans, slots, &names)
                .map_err(|error| ConvertError::new(format!("spec.keyspaces[{index}].spans"), error))?;
            let name = keyspace.name.as_str().into();
            Ok(KeyspaceTable {
                name,
                slots,
                definition: keyspace.definition.clone(),
                spans,
            })
        });
        let writers = writers.iter().enumerate();
        let writers = writers.map(|(index, writer)| read_writer(&format!("spec.writers[{index}]"), writer, &names));
        let mut keyspaces: Vec<_> = keyspaces.chain(writers).collect::<Result<_, ConvertError>>()?;
        keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
        let operations = operations.iter().enumerate();
        let finished = finished.iter().enumerate();
        Ok(Self {
            epoch: read_epoch("spec", *term, *epoch)?,
            units: units
                .iter()
                .map(|unit| TableUnit {
                    name: unit.name.as_str().into(),
                    router: unit.router.clone(),
                })
                .collect(),
            keyspaces,
            operations: operations
                .map(|(index, op)| read_operation(&format!("spec.operations[{index}]"), op))
                .collect::<Result<_, _>>()?,
            finished: finished
                .map(|(index, done)| read_finished(&format!("spec.finished[{index}]"), done))
                .collect::<Result<_, _>>()?,
            quarantined: quarantined
                .iter()
                .map(|known| read_quarantined("spec.quarantined", known))
                .collect::<Result<_, _>>()?,
            leases: leases
                .iter()
                .map(|grant| read_lease("spec.leases", grant))
                .collect::<Result<_, _>>()?,
            fencing: fencing
                .iter()
                .map(|known| Fencing {
                    unit: known.unit.as_str().into(),
                    stores: known.stores.iter().map(|store| store.as_str().into()).collect(),
                })
                .collect(),
        })
    }
}

impl TryFrom<&RoutingTable> for RoutingTableSpec {
    type Error = ConvertError;

    fn try_from(table: &RoutingTable) -> Result<Self, ConvertError> {
        let RoutingTable {
            epoch,
            units,
            keyspaces,
            operations,
            finished,
            quarantined,
            leases,
            fencing,
        } = table;
        let names: Vec<UnitName> = units.iter().map(|unit| unit.name.clone()).collect();
        let (writers, keyspaces): (Vec<_>, Vec<_>) =
            keyspaces.iter().partition(|known| known.name.writer_of().is_some());
        let writers = writers.into_iter().enumerate();
        let writers = writers.map(|(index, known)| write_writer(&format!("spec.writers[{index}]"), known));
        let keyspaces = keyspaces.into_iter().enumerate().map(|(index, keyspace)| {
            let field = format!("spec.keyspaces[{index}]");
            let spans = span::encode(&keyspace.spans, &names).ok_or_else(|| {
                ConvertError::new(format!("{field}.spans"), "an owner is not among the table's units")
            })?;
            Ok(TableKeyspace {
                name: keyspace.name.to_string(),
                slots: number(&format!("{field}.slots"), keyspace.slots)?,
                definition: keyspace.definition.clone(),
                spans,
            })
        });
        let operations = operations.iter().enumerate();
        let finished = finished.iter().enumerate();
        Ok(Self {
            term: epoch.term.into(),
            epoch: number("spec.epoch", epoch.epoch)?,
            units: units
                .iter()
                .map(|unit| crate::routing_table::TableUnit {
                    name: unit.name.to_string(),
                    router: unit.router.clone(),
                })
                .collect(),
            keyspaces: keyspaces.collect::<Result<_, ConvertError>>()?,
            writers: writers.collect::<Result<_, ConvertError>>()?,
            operations: operations
                .map(|(index, op)| write_operation(&format!("spec.operations[{index}]"), op))
                .collect::<Result<_, _>>()?,
            finished: finished
                .map(|(index, done)| write_finished(&format!("spec.finished[{index}]"), done))
                .collect::<Result<_, _>>()?,
            quarantined: quarantined
                .iter()
                .map(|known| write_quarantined("spec.quarantined", known))
                .collect::<Result<_, _>>()?,
            leases: leases
                .iter()
                .map(|grant| write_lease("spec.leases", grant))
                .collect::<Result<_, _>>()?,
            fencing: fencing
                .iter()
                .map(|known| TableFencing {
                    unit: known.unit.to_string(),
                    stores: known.stores.iter().map(ToString::to_string).collect(),
                })
                .collect(),
        })
    }
}
