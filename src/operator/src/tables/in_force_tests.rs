//! Tests of what stays in force.

use super::*;
use crate::fixtures::{object, operation};
use crate::tables::Inputs;
use crate::tables::assign::assignment;
use multiactive_api::Conflict;
use multiactive_api::Unit;
use multiactive_core::epoch::Epoch;
use multiactive_core::promotion::Step;
use multiactive_core::span::SpanState;
use serde_json::{Value, json};

fn store(members: &[&str], shard_key: &str) -> Arc<DataStore> {
    let member = |unit: &&str| json!({"unit": unit, "address": format!("{unit}:1"), "credentials": "s"});
    let spec = json!({"topology": "Sharded", "keyspace": "users", "engine": {"type": "PostgreSQL"},
        "tables": [{"name": "orders", "shardKey": shard_key}],
        "members": members.iter().map(member).collect::<Vec<_>>()});
    Arc::new(object("DataStore", "orders", spec))
}

/// What units a and b hold: the store with a member in each, and the keyspaces.
fn reports(keyspaces: Value) -> Reports {
    let all = store(&["a", "b"], "user_id");
    let members: Vec<_> = all.spec.members.iter().map(|member| json!(member)).collect();
    let report = |unit: &str, local: usize| {
        let store = json!({"name": "orders", "keyspace": "users", "engine": all.spec.engine, "tables": all.spec.tables,
            "local": members[local], "peers": [members[1 - local]]});
        let spec = json!({"unit": unit, "cluster": "c", "keyspaces": keyspaces, "stores": [store]});
        (UnitName::from(unit), Arc::new(object("UnitAssignment", unit, spec)))
    };
    [report("a", 0), report("b", 1)].into()
}

/// Slots 0-7 of users are a's; the rest nobody's.
fn table() -> RoutingTable {
    let mut users = KeyspaceTable::unowned("users".into(), 16);
    users.definition = Some("Crc32".to_owned());
    users.set(
        &SlotSet::range(0, 7),
        Some(&"a".into()),
        SpanState::Serving,
        Epoch::new(1, 2),
    );
    RoutingTable {
        keyspaces: vec![users],
        ..RoutingTable::default()
    }
}

fn moving() -> RoutingTable {
    RoutingTable {
        operations: vec![operation(Step::Drain, Epoch::new(1, 3))],
        ..table()
    }
}

fn unowned() -> RoutingTable {
    let mut table = table();
    table.keyspaces[0].set(&SlotSet::range(0, 15), None, SpanState::Unowned, Epoch::NEVER);
    table
}

/// The same, once the owner has changed.
fn moved() -> RoutingTable {
    let mut table = moving();
    table.operations[0].step = Step::Settle;
    let all = table.keyspaces[0].slots_where(|_| true);
    table.keyspaces[0].set(&all, Some(&"b".into()), SpanState::Serving, Epoch::new(1, 9));
    table
}

fn members(stores: &Stores) -> Vec<&str> {
    stores
        .all
        .iter()
        .flat_map(|store| &store.spec.members)
        .map(|member| member.unit.as_str())
        .collect()
}

#[test]
fn a_member_that_is_taken_away_stays_while_slots_depend_on_it() {
    for (declared, table, want, kept) in [
        (&["a", "b"][..], table(), vec!["a", "b"], vec![]),
        // b owns nothing: it may go.
        (&["a"], table(), vec!["a"], vec![]),
        (&["b"], table(), vec!["b", "a"], vec![("a", 8)]),
        (&["b"], unowned(), vec!["b"], vec![]),
        // The target of an operation is about to own slots.
        (&["a"], moving(), vec!["a", "b"], vec![("b", 0)]),
        (&["b"], moving(), vec!["b", "a"], vec![("a", 8)]),
        // A source that was lost right after the commit has nothing of it to lose.
        (&["b"], moved(), vec!["b"], vec![]),
    ] {
        let stores = stores(
            &[store(declared, "user_id")],
            &BTreeSet::new(),
            &reports(json!([])),
            Some(&table),
        );
        assert_eq!(members(&stores), want, "{declared:?}");
        let found: Vec<_> = stores
            .kept
            .iter()
            .map(|kept| (kept.unit.as_str(), kept.slots.len()))
            .collect();
        assert_eq!(found, kept, "{declared:?}");
    }
}

#[test]
fn the_address_of_a_kept_member_is_known_while_one_unit_holds_it() {
    for unit in ["a", "b"] {
        let mut reports = reports(json!([]));
        reports.retain(|holder, _| holder.as_str() == unit);
        let stores = stores(&[store(&["b"], "user_id")], &BTreeSet::new(), &reports, Some(&table()));
        let kept = stores.all[0].spec.members.iter().find(|member| member.unit == "a");
        assert_eq!(
            kept.map(|member| member.address.as_str()),
            Some("a:1"),
            "only {unit} is known"
        );
    }
    let stores = stores(
        &[store(&["b"], "user_id")],
        &BTreeSet::new(),
        &Reports::new(),
        Some(&table()),
    );
    assert_eq!(members(&stores), ["b"], "nothing is made up");
}

#[test]
fn a_store_whose_object_is_gone_stays_encrypted_though_a_unit_has_not_heard_of_that() {
    let tls = || {
        Some(multiactive_api::StoreTls {
            ca_file: "/ca.crt".to_owned(),
        })
    };
    for holder in ["a", "b"] {
        let mut held = reports(json!([]));
        let mut told = UnitAssignment::clone(&held[&UnitName::from(holder)]);
        told.spec.stores[0].tls = tls();
        held.insert(holder.into(), Arc::new(told));
        let gone = stores(&[], &BTreeSet::new(), &held, Some(&table()));
        assert_eq!(gone.all[0].spec.tls, tls(), "{holder}");
        let another = stores(&[store(&["a", "b"], "id")], &BTreeSet::new(), &held, Some(&table()));
        assert_eq!(another.all[0].spec.tls, tls(), "{holder}");
        let taken_away = stores(
            &[store(&["a", "b"], "user_id")],
            &BTreeSet::new(),
            &held,
            Some(&table()),
        );
        assert_eq!(taken_away.all[0].spec.tls, None, "{holder}: its own object says so");
    }
}

#[test]
fn a_store_that_is_gone_or_comes_again_as_another_is_in_force_as_it_was_while_slots_are_owned() {
    let held = reports(json!([]));
    let gone = stores(&[], &BTreeSet::new(), &held, Some(&table()));
    assert_eq!((members(&gone), gone.all[0].uid()), (vec!["a", "b"], None));
    assert_eq!(
        members(&stores(&[], &BTreeSet::new(), &held, Some(&unowned()))),
        Vec::<&str>::new()
    );
    for (table, want, altered) in [(table(), "user_id", true), (unowned(), "id", false)] {
        let stores = stores(&[store(&["a", "b"], "id")], &BTreeSet::new(), &held, Some(&table));
        assert_eq!(stores.all[0].spec.tables[0].shard_key.as_deref(), Some(want));
        assert_eq!(stores.altered.contains_key("orders"), altered, "{:?}", stores.altered);
        assert!(stores.all[0].uid().is_some());
    }
    let mut more = DataStore::clone(&store(&["a", "b"], "user_id"));
    more.spec.tables.push(multiactive_api::Table {
        name: "items".to_owned(),
        shard_key: Some("id".to_owned()),
        last_write: None,
    });
    let stores = stores(&[Arc::new(more)], &BTreeSet::new(), &held, Some(&table()));
    assert_eq!(
        (stores.all[0].spec.tables.len(), stores.altered.len()),
        (2, 0),
        "a table may be added"
    );
}

#[test]
fn what_a_person_gave_up_ends_when_it_is_deleted_and_no_operation_moves_its_slots() {
    let with = |deleted: bool, value: &str| {
        let mut store = DataStore::clone(&store(&["a", "b"], "user_id"));
        store
            .annotations_mut()
            .insert(crate::status::GIVE_UP.to_owned(), value.to_owned());
        let now = jiff::Timestamp::from_second(1).unwrap();
        store.metadata.deletion_timestamp =
            deleted.then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        Arc::new(store)
    };
    for (deleted, value, table, given_up) in [
        (true, "orders", table(), true),
        (false, "orders", table(), false),
        (true, "true", table(), false),
        (true, "orders", moving(), false),
    ] {
        let stores = stores(
            &[with(deleted, value)],
            &BTreeSet::new(),
            &reports(json!([])),
            Some(&table),
        );
        let found = (stores.all.len(), stores.given_up.len());
        assert_eq!(found, if given_up { (0, 1) } else { (1, 0) }, "{deleted} {value}");
    }
}

/// Keyspaces `users` and `carts`, unit `a`, and what is published to it.
fn published(keyspaces: &[(&str, Value)], held: Value, table: &RoutingTable) -> Vec<(String, Vec<String>)> {
    let keyspaces: Vec<Arc<Keyspace>> = keyspaces
        .iter()
        .map(|(name, spec)| Arc::new(object("Keyspace", name, spec.clone())))
        .collect();
    let inputs = Inputs {
        checked: Checks::default().of("shop", &keyspaces),
        keyspaces,
        reports: reports(held),
        ..Inputs::default()
    };
    let unit: Unit = object(
        "Unit",
        "a",
        json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"}),
    );
    let spec = assignment(&unit, &inputs, table);
    let routes = |keyspace: &AssignedKeyspace| {
        let routes = keyspace.spec.routes.iter();
        routes.map(|route| route.path_prefix.clone()).collect()
    };
    spec.keyspaces
        .iter()
        .map(|keyspace| (keyspace.name.clone(), routes(keyspace)))
        .collect()
}

fn spec(prefix: &str, pattern: &str, overrides: Value) -> Value {
    json!({"slots": 16, "function": {"type": "Crc32"}, "overrides": overrides,
        "routes": [{"pathPrefix": prefix, "backend": "shop"}],
        "key": {"sources": [{"type": "Path", "path": {"pattern": pattern}}]}})
}

#[test]
fn what_cannot_be_followed_stays_as_the_unit_holds_it() {
    let mut held = spec("/held", "(a)", json!([]));
    held["name"] = "users".into();
    let another = json!([{"keys": ["vip"], "slot": 1}]);
    let users = |routes: &str| vec![("users".to_owned(), vec![routes.to_owned()])];
    for (what, declared, want) in [
        (
            "as declared",
            vec![("users", spec("/new", "(a)", json!([])))],
            users("/new"),
        ),
        (
            "a pattern without a group",
            vec![("users", spec("/new", "a", json!([])))],
            users("/held"),
        ),
        (
            "other overrides",
            vec![("users", spec("/new", "(a)", another))],
            users("/held"),
        ),
        ("gone", vec![], users("/held")),
        (
            "one that is not in the table",
            vec![
                ("users", spec("/new", "(a)", json!([]))),
                ("carts", spec("/carts", "(a)", json!([]))),
            ],
            users("/new"),
        ),
    ] {
        assert_eq!(published(&declared, json!([held]), &table()), want, "{what}");
    }
    held["overrides"] = json!([{"keys": ["vip"], "slot": 2}]);
    let nothing = published(&[], json!([held]), &table());
    assert_eq!(
        nothing,
        vec![],
        "what a unit holds of an earlier keyspace of that name is not this one"
    );
}

#[test]
fn a_keyspace_is_checked_again_only_when_its_spec_changes() {
    let checks = Checks::default();
    let keyspace = |pattern: &str| Arc::new(object("Keyspace", "users", spec("/", pattern, json!([]))));
    for (pattern, good) in [("(a)", true), ("(a)", true), ("(", false), ("(b)", true)] {
        let checked = checks.of("shop", &[keyspace(pattern)]);
        assert_eq!(checked["users"].is_ok(), good, "{pattern}");
    }
    checks.of("shop", &[]);
    assert_eq!(checks.0.lock().unwrap().len(), 0, "what is gone is forgotten");
}

/// A store that a writes, with members in a and b, as declared; held by its finalizer.
fn single_writer(uid: Option<&str>) -> Arc<DataStore> {
    let member = |unit: &str| json!({"unit": unit, "address": format!("{unit}:1"), "credentials": "s"});
    let spec = json!({"topology": "SingleWriter", "engine": {"type": "PostgreSQL"}, "tables": [{"name": "items"}],
        "singleWriter": {"homeUnit": "a", "failoverUnits": ["b"],
            "routes": [{"pathPrefix": "/catalog", "backend": "shop"}]},
        "members": [member("a"), member("b")]});
    let mut store: DataStore = object("DataStore", "catalog", spec);
    store.metadata.uid = uid.map(str::to_owned);
    store.metadata.finalizers = Some(vec![crate::datastores::DATA_STORE_FINALIZER.to_owned()]);
    Arc::new(store)
}

/// As the record knows it: a writes.
fn with_writer(mut table: RoutingTable) -> RoutingTable {
    let mut catalog = KeyspaceTable::unowned("catalog.writer".into(), 1);
    let all = SlotSet::range(0, 0);
    catalog.set(&all, Some(&"a".into()), SpanState::Serving, Epoch::new(1, 2));
    table.keyspaces.insert(0, catalog);
    table
}

fn with_units(stores: Vec<Arc<DataStore>>) -> Inputs {
    let unit = |name: &str, role: &str| {
        let spec = json!({"cluster": "c", "role": role, "router": "https://r:1"});
        Arc::new(object::<Unit>("Unit", name, spec))
    };
    Inputs {
        units: vec![unit("a", "Sharded"), unit("b", "Standby"), unit("c", "Sharded")],
        stores,
        ..Inputs::default()
    }
}

#[test]
fn the_writer_of_a_store_is_declared_as_a_keyspace_of_one_slot_once_it_is_held() {
    let mut store = single_writer(Some("u"));
    let declared = with_units(vec![Arc::clone(&store)]).declared().keyspaces;
    let [writer] = declared.as_slice() else {
        panic!("{declared:?}")
    };
    assert_eq!((writer.name.as_str(), writer.slots), ("catalog.writer", 1));
    assert_eq!(writer.homes.as_ref().unwrap().home_of(0), Some(&"a".into()));
    assert_eq!(writer.members, ["a".into(), "b".into()]);
    for (why, change) in [
        (
            "not held",
            (|store: &mut DataStore| store.metadata.finalizers = None) as fn(&mut DataStore),
        ),
        ("no such unit", |store| {
            let writer = store.spec.single_writer.as_mut().unwrap();
            writer.home_unit = "z".to_owned();
        }),
    ] {
        let mut other = DataStore::clone(&store);
        change(&mut other);
        let declared = with_units(vec![Arc::new(other)]).declared().keyspaces;
        assert_eq!(declared[0].homes, None, "{why}");
    }
    // Given up: nothing of it is served, and its slot may go.
    let mut inputs = with_units(Vec::new());
    inputs.given_up_stores = vec![Arc::clone(&store)];
    assert!(inputs.declared().keyspaces[0].given_up);
    let ranges = with_units(vec![Arc::clone(&store)]).failover_ranges(|_| true);
    assert_eq!(ranges[0].units, ["a".into(), "b".into()]);
    assert_eq!(ranges[0].name, "catalog.writer");
    Arc::make_mut(&mut store).spec.single_writer = None;
    assert!(with_units(vec![store]).failover_ranges(|_| true).is_empty());
}

#[test]
fn reads_are_local_where_a_member_is_that_neither_stands_by_nor_is_lost() {
    let report = |unit: &str, ready: bool, gap: bool, held: &str| {
        let status = json!({"stores": [{"name": "catalog", "ready": ready}],
            "links": [{"store": "catalog", "from": "a", "state": "Running", "gap": gap}]});
        let mut report: UnitAssignment = object(
            "UnitAssignment",
            unit,
            json!({"unit": unit, "cluster": "c", "writers": [{"store": "catalog", "routes": [], "reads": held}]}),
        );
        report.status = Some(serde_json::from_value(status).unwrap());
        (UnitName::from(unit), Arc::new(report))
    };
    let mut inputs = with_units(vec![single_writer(Some("u"))]);
    inputs.reports = [report("a", true, false, "Writer"), report("b", true, false, "Writer")].into();
    let reads_of = |inputs: &Inputs, table: &RoutingTable| {
        let of = |unit: &Arc<Unit>| {
            let assigned = assignment(unit, inputs, table);
            assigned.writers.first().map(|writer| writer.reads)
        };
        inputs.units.iter().map(of).collect::<Vec<_>>()
    };
    let reads = |table: &RoutingTable| reads_of(&inputs, table);
    use multiactive_api::Reads::{Local, Writer};
    // An agent that has not said: as it was. One that has it not in hand, or whose link lacks rows: not by itself.
    let mut others = with_units(vec![single_writer(Some("u"))]);
    let sharded = json!({"cluster": "c", "role": "Sharded", "router": "https://r:1"});
    others.units[1] = Arc::new(object("Unit", "b", sharded));
    for (reports, want) in [
        (vec![], [Writer, Writer]),
        (
            vec![report("a", true, false, "Writer"), report("b", true, false, "Writer")],
            [Local, Local],
        ),
        (vec![report("b", false, false, "Local")], [Writer, Writer]),
        (vec![report("b", true, true, "Local")], [Writer, Writer]),
    ] {
        others.reports = reports.into_iter().collect();
        let got = reads_of(&others, &with_writer(table()));
        assert_eq!(got[..2], want.map(Some), "{:?}", others.reports);
    }
    for held in ["Local", "Writer"] {
        let mut silent = report("b", true, false, held);
        Arc::make_mut(&mut silent.1).status = None;
        others.reports = [silent].into();
        let got = reads_of(&others, &with_writer(table()))[1];
        assert_eq!(got, Some(if held == "Local" { Local } else { Writer }), "as it was");
    }
    // a writes, b stands by, c has no member.
    assert_eq!(reads(&with_writer(table())), [Some(Local), Some(Writer), Some(Writer)]);
    let mut lost = with_writer(table());
    lost.quarantined = vec![multiactive_core::quarantine::Quarantined {
        unit: "a".into(),
        since: Epoch::new(1, 4),
        by: "f".into(),
        name: "lost-a".to_owned(),
        accepted: None,
    }];
    assert_eq!(
        reads(&lost)[0],
        Some(Writer),
        "what came back answers nothing by itself"
    );
    assert_eq!(reads(&table()), [None, None, None], "not in the table yet");
}

#[test]
fn a_single_writers_store_that_is_gone_stays_in_force_as_the_units_hold_it() {
    let inputs = with_units(vec![single_writer(Some("u"))]);
    let table = with_writer(table());
    let held: Reports = ["a", "b"]
        .map(|name| {
            let unit = inputs.unit(&name.into()).unwrap();
            let assigned = assignment(unit, &inputs, &table);
            let report = UnitAssignment::new(name, assigned);
            (UnitName::from(name), Arc::new(report))
        })
        .into();
    let gone = stores(&[], &BTreeSet::new(), &held, Some(&table));
    let [store] = gone.all.as_slice() else {
        panic!("{:?}", gone.all)
    };
    assert_eq!(store.spec, single_writer(None).spec);
    // Created again as a sharded one: what was in force stays.
    let mut other = DataStore::clone(&single_writer(Some("v")));
    other.spec.topology = Topology::Sharded;
    other.spec.single_writer = None;
    other.spec.keyspace = Some("users".to_owned());
    let again = stores(&[Arc::new(other)], &BTreeSet::new(), &held, Some(&table));
    assert_eq!(again.all[0].keyspace_name().as_str(), "catalog.writer");
    assert!(
        again.altered["catalog"].contains("keyspace users, not topology SingleWriter"),
        "{:?}",
        again.altered
    );
}

#[test]
fn a_fenced_store_that_is_made_anew_for_several_writers_stays_fenced_and_the_other_way_round() {
    let mut shared = store(&["a", "b"], "user_id");
    Arc::make_mut(&mut shared).spec.conflict = Some(Conflict::OwnerWins);
    let held = reports(json!([]));
    let made = stores(&[Arc::clone(&shared)], &BTreeSet::new(), &held, Some(&table()));
    assert_eq!(
        (made.all[0].spec.conflict, made.all[0].keyspace_name().as_str()),
        (None, "users")
    );
    assert!(made.altered["orders"].contains("keyspace users"), "{:?}", made.altered);
    // What several units write is nobody's: it goes with its object, but not where that cannot be read.
    let held = held.into_iter().map(|(unit, report)| {
        let mut report = (*report).clone();
        report.spec.stores[0].keyspace = shared.keyspace_name().to_string();
        report.spec.stores[0].conflict = Some(multiactive_api::AssignedConflict {
            rule: Conflict::OwnerWins,
            keyspace: "users".to_owned(),
        });
        (unit, Arc::new(report))
    });
    let held: Reports = held.collect();
    assert!(stores(&[], &BTreeSet::new(), &held, Some(&table())).all.is_empty());
    let unreadable = BTreeSet::from(["orders".to_owned()]);
    let kept = stores(&[], &unreadable, &held, Some(&table()));
    assert_eq!(kept.all[0].keyspace_name(), shared.keyspace_name());
    assert_eq!(kept.all[0].spec, shared.spec);
}
