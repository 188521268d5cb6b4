//! A table as the state of a modelled world: shared between worlds, with its hash computed once.

use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::Operation;
use multiactive_core::span::Span;
use multiactive_core::table::RoutingTable;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

#[derive(Clone)]
pub struct Table(Arc<(u64, RoutingTable)>);

impl Table {
    pub fn new(table: RoutingTable) -> Self {
        let mut hasher = DefaultHasher::new();
        table.hash(&mut hasher);
        Self(Arc::new((hasher.finish(), table)))
    }

    pub fn get(&self) -> &RoutingTable {
        &self.0.1
    }

    pub fn epoch(&self) -> Epoch {
        self.get().epoch
    }

    pub fn span(&self, slot: usize) -> &Span {
        self.get().keyspaces[0].span_of(slot as u16).unwrap()
    }

    /// The operation that moves a slot.
    pub fn operation(&self, slot: usize) -> Option<&Operation> {
        let mut operations = self.get().operations.iter();
        operations.find(|op| op.moves.iter().any(|moved| moved.slots.contains(slot as u16)))
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}
impl Eq for Table {}
impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}
impl PartialOrd for Table {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Table {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.epoch(), self.0.0).cmp(&(other.epoch(), other.0.0))
    }
}
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.epoch())?;
        for span in &self.get().keyspaces[0].spans {
            let owner = span.owner.as_ref().map_or("nobody", |owner| owner.as_str());
            write!(f, " {}-{} {:?}@{owner}", span.first, span.last, span.state)?;
        }
        for op in &self.get().operations {
            write!(f, " {}:{}", op.uid, op.step)?;
        }
        Ok(())
    }
}
