//! What a DataStore's status says: each member's database as its agent reports it (pure); and the finalizer that holds
//! one while slots of its keyspace have owners: their fences are its triggers.

mod writer;

use crate::Context;
use crate::conditions::{Readiness, set_readiness};
use crate::finalizers;
use crate::keyspaces::{is_free, owners_text};
use crate::route_claims::taken;
use crate::schedules;
use crate::served::Unserved;
use crate::status::{GIVE_UP, is_given_up};
use crate::tables::{View, is_held};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use multiactive_api::{AssignedStoreStatus, ConflictCounts, DataStore, DataStoreStatus, StoreMemberStatus};
use multiactive_core::ids::UnitName;

/// Holds a DataStore while slots of its keyspace have owners.
pub const DATA_STORE_FINALIZER: &str = "multiactive.io/datastore";

/// The status that the view asks for.
pub fn status(store: &DataStore, view: &View, unserved: &Unserved, now: Timestamp) -> DataStoreStatus {
    let mut status = store.status.clone().unwrap_or_default();
    let members = store
        .spec
        .members
        .iter()
        .map(|declared| member(store, &declared.unit, view));
    status.members = members.collect();
    status.writer = writer::status(store, view);
    status.conflicts = conflicts(store, &status.members);
    status.verification = schedules::shown(store, &view.inputs.verifications, now);
    status.observed_generation = store.metadata.generation;
    let readiness = readiness(store, &status.members, view, unserved);
    set_readiness(&mut status.conditions, &readiness, store.metadata.generation, now);
    status
}

fn member(store: &DataStore, unit: &str, view: &View) -> StoreMemberStatus {
    let name = UnitName(unit.to_owned());
    let report = view.inputs.reports.get(&name).and_then(|report| report.status.as_ref());
    let known = report.and_then(|report| report.stores.iter().find(|known| known.name == store.name_any()));
    let (state, message) = match (view.inputs.unit(&name), known) {
        (None, _) => ("Unknown", Some(format!("there is no Unit {unit}"))),
        (Some(_), _) if !view.inputs.reachable.contains(&name) => {
            ("Unknown", Some("its member cluster does not answer".to_owned()))
        }
        (Some(_), None) => ("Unknown", Some("its agent has not reported it yet".to_owned())),
        (Some(_), Some(known)) if known.ready && store.spec.conflict.is_some() && known.conflicts.is_none() => {
            ("NotReady", Some(OLDER.to_owned()))
        }
        (Some(_), Some(known)) => said(known, store.spec.tls.is_some()),
    };
    StoreMemberStatus {
        unit: unit.to_owned(),
        state: state.to_owned(),
        message,
        conflicts: known
            .and_then(|known| known.conflicts)
            .filter(|_| store.spec.conflict.is_some()),
    }
}

/// What is said of a member whose agent does not count conflicts.
const OLDER: &str = "its agent does not say which rows two units wrote: where that stays so, the agent, or the CRDs of its cluster, are \
                     of a version that does not know spec.conflict; update them";

/// How a member is by what its agent says. An agent that does not know of encryption says nothing of it, and goes on in the open.
fn said(known: &AssignedStoreStatus, encrypt: bool) -> (&'static str, Option<String>) {
    match (known.ready, encrypt && !known.encrypted) {
        (true, false) => ("Ready", None),
        (true, true) => {
            let why = "its agent does not encrypt yet: where that stays so, the agent, or the CRDs of its cluster, are of a \
                       version that does not know spec.tls; update them";
            ("NotReady", Some(why.to_owned()))
        }
        (false, _) => ("NotReady", known.message.clone().or_else(|| known.reason.clone())),
    }
}

/// What is said of one that is being deleted.
fn leaving(store: &DataStore, view: &View) -> Readiness {
    let (name, keyspace) = (store.keyspace_name(), fenced_by(store));
    if is_given_up(store) {
        return Readiness::Reconciling {
            reason: "Leaving",
            message: "it was given up: it goes once no unit holds it".to_owned(),
        };
    }
    let owners = view
        .table
        .as_deref()
        .map(|table| owners_text(name.as_str(), table))
        .unwrap_or_default();
    if owners.is_empty() {
        let message = match store.spec.conflict {
            Some(_) => "no unit owns a slot of what several write: it goes".to_owned(),
            None => format!("nobody owns a slot of {keyspace}: it goes"),
        };
        return Readiness::Reconciling {
            reason: "Leaving",
            message,
        };
    }
    Readiness::Stalled {
        reason: "SlotsOwned",
        message: format!(
            "it is being deleted, but slots of {keyspace} have owners ({owners}), and without it nothing fences \
             writes to its databases when they move; so it stays in force. To keep it, take its finalizer \
             {DATA_STORE_FINALIZER} off and apply it again unchanged; to give it up, annotate it {GIVE_UP}={} once no program \
             writes to its databases: they stay as they are, open where they were open",
            store.name_any()
        ),
    }
}

/// By what it is fenced, for people: `Keyspace users`, or that of its writer.
fn fenced_by(store: &DataStore) -> String {
    match &store.spec.keyspace {
        Some(keyspace) => format!("Keyspace {keyspace}"),
        None => format!("keyspace {}, its writer's,", store.keyspace_name()),
    }
}

/// The first unit that slots depend on, and that the store does not name.
fn kept(store: &DataStore, view: &View) -> Option<(&'static str, String)> {
    let (name, keyspace) = (store.name_any(), fenced_by(store));
    if let Some(kept) = view.inputs.kept.iter().find(|kept| kept.store == name) {
        let unit = &kept.unit;
        let why = match kept.slots.is_empty() {
            true => format!("a Promotion is moving slots of {keyspace} to it"),
            false => format!("it owns slots {} of {keyspace}", kept.slots),
        };
        let message = format!(
            "spec.members does not name {unit} any more, but {why}: its database stays fenced and linked as it was. Move \
             the slots away with a Promotion and it goes, or put the member back"
        );
        return Some(("MemberOwnsSlots", message));
    }
    let owners = view.table.as_deref()?.owners_of(&store.keyspace_name());
    let without = |unit: &UnitName| !store.spec.members.iter().any(|member| member.unit == unit.as_str());
    let (unit, slots) = owners.iter().find(|(unit, _)| without(unit))?;
    let message = format!(
        "{unit} owns slots {slots} of {keyspace}, but spec.members has no database in it: nothing fences its \
         writes, and no Promotion may move these slots; add its member"
    );
    Some(("NoMember", message))
}

/// Whether every unit is known to hold it no more.
fn is_let_go(store: &DataStore, view: &View) -> bool {
    let known = |unit: &UnitName| view.inputs.reports.contains_key(unit) || view.unassigned.contains(unit.as_str());
    let all_known = view.inputs.units.iter().all(|unit| known(&unit.name_any().into()));
    all_known && !is_held(&store.name_any(), &view.inputs.reports)
}

/// Adds or removes the finalizer where the view asks for it; whether that succeeded.
pub async fn finalizer(ctx: &Context, store: &DataStore, view: &View) -> bool {
    let api: Api<DataStore> = Api::namespaced(ctx.client.clone(), &view.inputs.namespace);
    let mut given_up = view.inputs.given_up_stores.iter();
    let free = match given_up.any(|given_up| given_up.uid() == store.uid()) {
        true => is_let_go(store, view),
        false => is_free(store.keyspace_name().as_str(), view),
    };
    finalizers::keep(&ctx.metrics, &api, store, DATA_STORE_FINALIZER, free).await
}

fn readiness(store: &DataStore, members: &[StoreMemberStatus], view: &View, unserved: &Unserved) -> Readiness {
    let keyspace = fenced_by(store);
    if store.metadata.deletion_timestamp.is_some() {
        return leaving(store, view);
    }
    if let Some(what) = view.inputs.altered.get(&store.name_any()) {
        return Readiness::Stalled {
            reason: "DefinitionChanged",
            message: format!(
                "it was created again as another while slots of {keyspace} are owned: {what}; what was in force stays: \
                 apply it as it was, or use a new name"
            ),
        };
    }
    if let Some((reason, message)) = kept(store, view) {
        return Readiness::Stalled { reason, message };
    }
    let name = store.keyspace_name();
    let declared = || {
        let mut known = view.inputs.keyspaces.iter();
        known.any(|known| store.spec.keyspace.as_ref() == Some(&known.name_any()))
    };
    if store.spec.single_writer.is_none() && !declared() {
        return Readiness::Stalled {
            reason: "NoKeyspace",
            message: format!("there is no {keyspace}"),
        };
    }
    if let Some(unknown) = members
        .iter()
        .find(|m| view.inputs.unit(&m.unit.as_str().into()).is_none())
    {
        return Readiness::Stalled {
            reason: "UnknownUnit",
            message: format!(
                "spec.members names unit {}, but there is no Unit of that name",
                unknown.unit
            ),
        };
    }
    let ranges = view
        .inputs
        .ranges
        .iter()
        .filter(|range| range.spec.keyspace == name.as_str());
    for range in ranges {
        let named = range.spec.failover_units.iter().chain([&range.spec.home_unit]);
        for unit in named {
            if !members.iter().any(|member| member.unit == *unit) {
                return Readiness::Stalled {
                    reason: "NoMember",
                    message: format!(
                        "ShardRange {} names unit {unit}, but spec.members has no database in it",
                        range.name_any()
                    ),
                };
            }
        }
    }
    if let Some(readiness) = writer::trouble(store, view, unserved) {
        return readiness;
    }
    match members.iter().find(|member| member.state != "Ready") {
        None => Readiness::Ready {
            reason: "MembersReady",
            message: format!(
                "{} databases are ready{}{}",
                members.len(),
                taken(name.as_str(), view),
                in_doubt(store, members)
            ),
        },
        Some(member) => Readiness::Reconciling {
            reason: if member.state == "Unknown" {
                "MemberUnknown"
            } else {
                "MemberNotReady"
            },
            message: format!("{}: {}", member.unit, member.message.as_deref().unwrap_or("not ready")),
        },
    }
}

/// The rows that two units wrote at the same time, as far as the members' agents have said.
fn conflicts(store: &DataStore, members: &[StoreMemberStatus]) -> Option<ConflictCounts> {
    store.spec.conflict?;
    let said = members.iter().filter_map(|member| member.conflicts);
    Some(said.fold(ConflictCounts::default(), |all, one| ConflictCounts {
        open: all.open.saturating_add(one.open),
        settled: all.settled.saturating_add(one.settled),
    }))
}

fn in_doubt(store: &DataStore, members: &[StoreMemberStatus]) -> String {
    match conflicts(store, members) {
        Some(ConflictCounts { open, .. }) if open > 0 => {
            format!("; {open} rows differ that two units wrote: see multiactive.conflict in their databases")
        }
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_whose_agent_goes_on_in_the_open_is_not_ready_where_encryption_is_wanted() {
        for (ready, encrypted, wanted, want, word) in [
            (true, true, true, "Ready", None),
            (true, true, false, "Ready", None),
            (true, false, false, "Ready", None),
            (true, false, true, "NotReady", Some("spec.tls")),
            (false, false, true, "NotReady", Some("no answer")),
            (false, true, true, "NotReady", Some("no answer")),
        ] {
            let known: AssignedStoreStatus =
                serde_json::from_value(serde_json::json!({"name": "orders", "ready": ready,
                "encrypted": encrypted, "reason": "Unreachable", "message": "no answer"}))
                .unwrap();
            let (state, message) = said(&known, wanted);
            assert_eq!(state, want, "{ready} {encrypted} {wanted}");
            assert_eq!(message.is_some(), word.is_some());
            assert!(message.unwrap_or_default().contains(word.unwrap_or_default()));
        }
    }
}
