//! What `route` shows: from a key to its slot to its owner, by the code that routers run.

use crate::fail::{Failure, Result};
use kube::ResourceExt;
use multiactive_api::{DataStore, Keyspace, ShardRange};
use multiactive_core::ids::KeyspaceName;
use multiactive_core::key::MAX_KEY;
use multiactive_core::keyspace::Keyspace as Compiled;
use multiactive_core::lookup::Lookup;
use multiactive_core::slots::Slot;
use multiactive_core::table::{KeyspaceTable, RoutingTable};
use serde::Serialize;

/// Where a key goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// The namespace.
    pub namespace: String,
    /// The key; absent for a store that one unit writes.
    pub key: Option<String>,
    /// The keyspace; that of its writer for such a store.
    pub keyspace: String,
    /// The slot.
    pub slot: Slot,
    /// `Override`, `Function` or `SingleWriter`.
    pub rule: &'static str,
    /// The function, with its overrides.
    pub definition: String,
    /// The unit that owns the slot; absent where nobody does.
    pub owner: Option<String>,
    /// What the owner may do.
    pub state: String,
    /// Since which epoch.
    pub epoch: String,
    /// Where the other units' routers reach the owner.
    pub router: Option<String>,
    /// The ShardRange that holds the slot.
    pub range: Option<String>,
    /// The unit that Git prefers.
    pub home: Option<String>,
    /// The operation that moves the slot now.
    pub operation: Option<String>,
    /// The table by which this is said.
    pub table: String,
}

/// The keyspace that is meant: the named one, or the only one.
///
/// # Errors
///
/// Where there is none, or several and none is named.
pub fn choose<'a>(keyspaces: &'a [Keyspace], named: Option<&str>, namespace: &str) -> Result<&'a Keyspace> {
    let names: Vec<_> = keyspaces.iter().map(ResourceExt::name_any).collect();
    match (named, keyspaces) {
        (Some(name), _) => keyspaces
            .iter()
            .find(|keyspace| keyspace.name_any() == name)
            .ok_or_else(|| {
                Failure::not_found(format!(
                    "there is no Keyspace {namespace}/{name}; there are: {}",
                    listed(&names)
                ))
            }),
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::not_found(format!(
            "namespace {namespace} has no Keyspace: choose another one with -n"
        ))),
        (None, _) => Err(Failure::usage(format!(
            "namespace {namespace} has several keyspaces: choose one with --keyspace: {}",
            listed(&names)
        ))),
    }
}

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// The slot of a key, by the function and overrides of its Keyspace.
///
/// # Errors
///
/// Where the Keyspace cannot be used, or no request can have the key.
pub fn slot(keyspace: &Keyspace, key: &str) -> Result<(Compiled, Slot)> {
    if !(1..=MAX_KEY).contains(&key.len()) {
        return Err(Failure::usage(format!(
            "a key has at least 1 and at most {MAX_KEY} bytes"
        )));
    }
    let compiled = Compiled::try_from(&keyspace.spec)
        .map_err(|error| Failure::error(format!("Keyspace {} cannot be used: {error}", keyspace.name_any())))?;
    let slot = compiled.slot_of(key);
    Ok((compiled, slot))
}

/// Where a key goes.
///
/// # Errors
///
/// Where the Keyspace cannot be used, or the table was not given out by it.
pub fn route(
    namespace: &str,
    keyspace: &Keyspace,
    ranges: &[ShardRange],
    table: &RoutingTable,
    key: &str,
) -> Result<RouteView> {
    let (compiled, slot) = slot(keyspace, key)?;
    let name = KeyspaceName(keyspace.name_any());
    let published = table.keyspace(&name).ok_or_else(|| {
        Failure::error(format!(
            "Keyspace {namespace}/{name} is not in the routing table yet: see its condition Ready"
        ))
    })?;
    let definition = compiled.definition();
    let differs = published.definition.as_ref().is_some_and(|known| *known != definition);
    if differs || published.slots != compiled.slots() {
        return Err(Failure::error(format!(
            "Keyspace {namespace}/{name} says {} slots by {definition}, but its slots were given out as {} by {}: routers go on \
             with what they hold; see its condition Ready",
            compiled.slots(),
            published.slots,
            published.definition.as_deref().unwrap_or("an older definition")
        )));
    }
    let holds = |range: &&ShardRange| {
        let slots = range.spec.first_slot..=range.spec.last_slot;
        range.spec.keyspace == name.0 && slots.contains(&i32::from(slot))
    };
    let range = ranges.iter().find(holds);
    let mut overridden = keyspace.spec.overrides.iter().flat_map(|entry| &entry.keys);
    let rule = match overridden.any(|known| known == key) {
        true => "Override",
        false => "Function",
    };
    let view = owned(namespace, table, published, slot)?;
    Ok(RouteView {
        key: Some(key.to_owned()),
        rule,
        definition,
        range: range.map(ResourceExt::name_any),
        home: range.map(|range| range.spec.home_unit.clone()),
        ..view
    })
}

/// Where writes of a store go that one unit writes.
///
/// # Errors
///
/// Where it is sharded, written by every unit, or not in the table yet.
pub fn writer(namespace: &str, store: &DataStore, table: &RoutingTable) -> Result<RouteView> {
    let name = store.name_any();
    let declared = match (&store.spec.single_writer, &store.spec.conflict) {
        (Some(declared), _) => declared,
        (None, Some(_)) => {
            return Err(Failure::usage(format!(
                "DataStore {namespace}/{name} is written by every unit (spec.conflict): it has no writer"
            )));
        }
        (None, None) => {
            return Err(Failure::usage(format!(
                "DataStore {namespace}/{name} is sharded by Keyspace {}: give a key",
                store.keyspace_name()
            )));
        }
    };
    let published = table.keyspace(&store.keyspace_name()).ok_or_else(|| {
        Failure::error(format!(
            "DataStore {namespace}/{name} is not in the routing table yet: see its condition Ready"
        ))
    })?;
    let view = owned(namespace, table, published, 0)?;
    Ok(RouteView {
        home: Some(declared.home_unit.clone()),
        ..view
    })
}

/// Who owns a slot, without by which rule.
fn owned(namespace: &str, table: &RoutingTable, published: &KeyspaceTable, slot: Slot) -> Result<RouteView> {
    let name = &published.name;
    let lookup = Lookup::new(published);
    let entry = lookup
        .get(slot)
        .ok_or_else(|| Failure::error(format!("the routing table has no slot {slot} of {name}")))?;
    let moving = table.operations.iter().find(|operation| {
        let mut moves = operation.moves.iter();
        moves.any(|slot_move| slot_move.keyspace == *name && slot_move.slots.contains(slot))
    });
    let router = entry
        .owner
        .as_ref()
        .and_then(|owner| table.units.iter().find(|unit| unit.name == *owner));
    Ok(RouteView {
        namespace: namespace.to_owned(),
        key: None,
        keyspace: name.0.clone(),
        slot,
        rule: "SingleWriter",
        definition: Compiled::single_writer().definition(),
        owner: entry.owner.as_ref().map(ToString::to_string),
        state: format!("{:?}", entry.state),
        epoch: entry.epoch.to_string(),
        router: router.map(|unit| unit.router.clone()),
        range: None,
        home: None,
        operation: moving.map(|operation| format!("{}/{} at {}", operation.kind, operation.name, operation.step)),
        table: table.epoch.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures::{keyspace, range, table};

    #[test]
    fn a_key_goes_where_its_override_or_its_function_says() {
        let keyspace = keyspace(&["vip"], 9);
        let ranges = [range("users-0", 0, 7, "east-1"), range("users-1", 8, 15, "north-1")];
        let table = table(
            "8s0@1.4,8s1@1.6",
            Some(&Compiled::try_from(&keyspace.spec).unwrap().definition()),
        );
        for (key, rule, slot, owner, home) in [
            ("vip", "Override", 9, "north-1", "north-1"),
            ("alice", "Function", 7, "east-1", "east-1"),
        ] {
            let view = route("shop", &keyspace, &ranges, &table, key).unwrap();
            assert_eq!((view.rule, view.slot), (rule, slot), "{key}");
            assert_eq!(
                view.slot,
                Compiled::try_from(&keyspace.spec).unwrap().slot_of(key),
                "{key}"
            );
            assert_eq!(
                (view.owner.as_deref(), view.home.as_deref()),
                (Some(owner), Some(home)),
                "{key}"
            );
        }
    }

    #[test]
    fn a_table_that_was_given_out_by_another_definition_says_nothing_of_a_key() {
        let keyspace = keyspace(&["vip"], 9);
        let table = table("8s0@1.4,8s1@1.6", Some("Crc32"));
        let error = route("shop", &keyspace, &[], &table, "alice").unwrap_err().to_string();
        assert!(error.contains("were given out"), "{error}");
    }

    #[test]
    fn one_keyspace_is_meant_by_itself_and_several_have_to_be_named() {
        let one = [keyspace(&[], 0)];
        assert!(choose(&one, None, "shop").is_ok());
        let two = [keyspace(&[], 0), keyspace(&[], 0)];
        for (named, exit) in [(None, 2), (Some("nothing"), 5)] {
            assert_eq!(
                choose(&two, named, "shop").unwrap_err().exit().code(),
                exit,
                "{named:?}"
            );
        }
    }
}
