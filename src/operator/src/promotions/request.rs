//! From a Promotion to a request that the core admits or refuses.

use crate::tables::Inputs;
use jiff::Timestamp;
use kube::ResourceExt;
use multiactive_api::{Promotion, convert};
use multiactive_core::ids::OperationUid;
use multiactive_core::promotion::{Operation, OperationKind, Request, admit};
use multiactive_core::select::{NamedRange, select};
use multiactive_core::table::RoutingTable;

/// Why a Promotion does not begin: a word for machines, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// One word.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refused {
    /// One of this word and text.
    pub fn new(reason: &str, message: impl ToString) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.to_string(),
        }
    }
}

/// The uid of the object, as the operation's.
pub fn uid_of(promotion: &Promotion) -> OperationUid {
    OperationUid(promotion.uid().unwrap_or_default())
}

/// The operation that the Promotion asks for, or why it may not begin.
///
/// # Errors
///
/// [`Refused`], from the conversion, the selection or the admission.
pub fn operation(
    promotion: &Promotion,
    table: &RoutingTable,
    inputs: &Inputs,
    now: Timestamp,
) -> Result<Operation, Refused> {
    // First: an object that was created again is told so, whatever else became wrong with it meanwhile.
    let name = promotion.name_any();
    if let Some(done) = table
        .finished
        .iter()
        .find(|done| done.kind == OperationKind::Promotion && done.name == name)
    {
        let refusal = multiactive_core::promotion::Refusal::AlreadyDone {
            name,
            uid: done.uid.clone(),
        };
        return Err(Refused::new(refusal.reason(), refusal));
    }
    let request = request(promotion, table, inputs)?;
    admit(table, &request, now).map_err(|refusal| Refused::new(refusal.reason(), refusal))
}

fn request(promotion: &Promotion, table: &RoutingTable, inputs: &Inputs) -> Result<Request, Refused> {
    let selection = convert::selection(&promotion.spec.select).map_err(|error| Refused::new("Invalid", error))?;
    let ranges: Vec<_> = inputs.ranges.iter().map(|range| NamedRange::from(&**range)).collect();
    let slots = select(&selection, &ranges, table).map_err(|error| Refused::new(error.reason(), error))?;
    let stores = inputs.stores_in_force();
    convert::request(&promotion.spec, uid_of(promotion), &promotion.name_any(), slots, stores)
        .map_err(|error| Refused::new("Invalid", error))
}
