//! From whom a store gets rows that no link will bring: those that a link lacks, and those that a Verification wants replaced.
//! Pure. Nothing comes from who is lost, nor while this unit is.

use super::wish::Target;
use multiactive_core::ids::UnitName;
use multiactive_core::promotion::Operation;
use multiactive_core::quarantine;
use multiactive_core::table::RoutingTable;
use multiactive_stores::driver::{Lacking, Link, LinkState, Peer};
use std::collections::BTreeSet;

/// From whom a Verification wants rows copied; not from who is lost, nor while this unit is, nor while slots of the keyspace
/// move: what the owner's fence wrote before the copy would not come by the link any more, and be waited for while writes are
/// held.
pub(super) fn repairs<'a>(table: &RoutingTable, target: &'a Target, wanted: &BTreeSet<UnitName>) -> Vec<&'a Peer> {
    let lost = quarantine::lost(table);
    let moves = |op: &Operation| !op.slots_of(&target.spec.keyspace.name, None).is_empty();
    if lost.contains(&target.spec.unit) || table.operations.iter().any(moves) {
        return Vec::new();
    }
    let peers = target.peers.iter().filter(|peer| wanted.contains(&peer.unit));
    peers.filter(|peer| !lost.contains(&peer.unit)).collect()
}

/// From whom rows are to be copied.
pub(super) fn sources<'a>(table: &RoutingTable, target: &'a Target, links: &[Link]) -> Vec<&'a Peer> {
    let lost = quarantine::lost(table);
    // Where several units write, what is missing is found when rows are compared.
    if lost.contains(&target.spec.unit) || target.spec.is_shared() {
        return Vec::new();
    }
    let owners = table.owners_of(&target.spec.keyspace.name);
    let mut wanted: Vec<&UnitName> = Vec::new();
    for link in links.iter().filter(|link| may_be_mended(link)) {
        match &link.lacking {
            Some(Lacking::Of(slots)) => {
                let has = owners.iter().filter(|(_, owned)| owned.intersects(slots));
                wanted.extend(has.map(|(owner, _)| *owner));
            }
            Some(Lacking::Unknown) => wanted.push(&link.from),
            None if matches!(link.state, LinkState::Lacks { .. }) => wanted.push(&link.from),
            None => {}
        }
    }
    let peers = target.peers.iter();
    peers
        .filter(|peer| wanted.contains(&&peer.unit) && !lost.contains(&peer.unit))
        .collect()
}

/// Whether the link's unit is one whose rows may come here at all.
fn may_be_mended(link: &Link) -> bool {
    match link.state {
        LinkState::Running | LinkState::Starting(_) | LinkState::Lacks { .. } | LinkState::Broken(_) => true,
        LinkState::Cut(_) | LinkState::Quarantined(_) => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::credentials::Login;
    use multiactive_core::epoch::Epoch;
    use multiactive_core::hash::Function;
    use multiactive_core::promotion::{Budgets, OperationKind, SlotMove, Step, Verify};
    use multiactive_core::quarantine::Quarantined;
    use multiactive_core::slots::SlotSet;
    use multiactive_core::span::SpanState;
    use multiactive_core::table::KeyspaceTable;
    use multiactive_stores::driver::{KeyspaceSpec, StoreSpec};
    use std::collections::BTreeMap;

    const UNITS: [&str; 3] = ["east-1", "north-1", "west-1"];

    /// South's store; north owns the first half, west a quarter.
    pub(in crate::store) fn south() -> (Target, RoutingTable) {
        let login = || Login {
            username: String::new(),
            password: String::new(),
        };
        let peer = |unit: &str| Peer {
            unit: unit.into(),
            host: String::new(),
            port: 1,
            user: String::new(),
            password: String::new(),
        };
        let target = Target {
            engine: multiactive_stores::EngineKind::PostgreSql,
            spec: StoreSpec {
                namespace: "shop".to_owned(),
                store: "orders".into(),
                unit: "south-1".into(),
                keyspace: KeyspaceSpec {
                    name: "users".into(),
                    slots: 16,
                    function: Function::Crc32,
                    overrides: BTreeMap::new(),
                },
                tables: Vec::new(),
                peers: UNITS.iter().map(|unit| (*unit).into()).collect(),
            },
            host: String::new(),
            port: 1,
            database: String::new(),
            login: login(),
            tls: None,
            secret: String::new(),
            peers: UNITS.map(peer).to_vec(),
        };
        let mut keyspace = KeyspaceTable::unowned("users".into(), 16);
        let at = Epoch::new(1, 1);
        for (unit, first, last) in [("north-1", 0, 7), ("west-1", 8, 11), ("south-1", 12, 15)] {
            let slots = SlotSet::range(first, last);
            keyspace.set(&slots, Some(&unit.into()), SpanState::Serving, at);
        }
        let table = RoutingTable {
            keyspaces: vec![keyspace],
            ..RoutingTable::default()
        };
        (target, table)
    }

    fn moving() -> Operation {
        Operation {
            kind: OperationKind::Promotion,
            uid: "uid".into(),
            name: "move".to_owned(),
            target: "west-1".into(),
            moves: Vec::new(),
            stores: Vec::new(),
            verify: Verify::None,
            budgets: Budgets {
                fence: jiff::SignedDuration::from_secs(1),
                drain: jiff::SignedDuration::from_secs(1),
            },
            step: Step::Check,
            epoch: Epoch::NEVER,
            positions: Vec::new(),
            behind: Vec::new(),
            failover: None,
            history: Vec::new(),
        }
    }

    pub(in crate::store) fn lost(table: &mut RoutingTable, unit: &str) {
        table.quarantined.push(Quarantined {
            unit: unit.into(),
            by: "uid".into(),
            name: "lost".to_owned(),
            since: Epoch::new(1, 2),
            accepted: None,
        });
    }

    #[test]
    fn rows_are_copied_from_who_has_them_and_never_from_or_into_a_lost_unit() {
        let lacks = || LinkState::Lacks {
            of: "east-1".into(),
            upto: "0/1".to_owned(),
        };
        let of = |first, last| Some(Lacking::Of(SlotSet::range(first, last)));
        let cut = || LinkState::Cut("op".to_owned());
        for (state, lacking, lost_units, want) in [
            (lacks(), None, vec!["east-1"], vec!["north-1"]),
            (lacks(), None, vec!["east-1", "north-1"], vec![]),
            (lacks(), None, vec!["east-1", "south-1"], vec![]),
            (LinkState::Running, None, vec![], vec![]),
            (LinkState::Broken("x".to_owned()), None, vec![], vec![]),
            (LinkState::Running, Some(Lacking::Unknown), vec![], vec!["north-1"]),
            (
                LinkState::Broken("x".to_owned()),
                Some(Lacking::Unknown),
                vec![],
                vec!["north-1"],
            ),
            (cut(), Some(Lacking::Unknown), vec![], vec![]),
            (LinkState::Running, of(8, 8), vec![], vec!["west-1"]),
            (LinkState::Running, of(7, 8), vec![], vec!["north-1", "west-1"]),
            (LinkState::Running, of(7, 8), vec!["west-1"], vec!["north-1"]),
            (LinkState::Running, of(12, 15), vec![], vec![]),
        ] {
            let (target, mut table) = south();
            lost_units.iter().for_each(|unit| lost(&mut table, unit));
            let link = Link {
                from: "north-1".into(),
                state,
                gap: lacking.is_some().then(|| "why".to_owned()),
                lacking,
            };
            let found = sources(&table, &target, std::slice::from_ref(&link));
            let found: Vec<_> = found.iter().map(|peer| peer.unit.as_str()).collect();
            assert_eq!(found, want, "{link:?}, lost {lost_units:?}");
        }
    }

    #[test]
    fn a_repair_waits_until_no_slot_of_the_keyspace_moves_and_nobody_is_lost() {
        let wanted = BTreeSet::from(["north-1".into()]);
        let (target, table) = south();
        let from = |table: &RoutingTable| {
            let found = repairs(table, &target, &wanted);
            found.iter().map(|peer| peer.unit.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(from(&table), ["north-1"]);
        for unit in ["north-1", "south-1"] {
            let mut table = table.clone();
            lost(&mut table, unit);
            assert_eq!(from(&table), Vec::<String>::new(), "{unit} is lost");
        }
        for (keyspace, want) in [("users", 0), ("carts", 1)] {
            let mut table = table.clone();
            table.operations.push(Operation {
                moves: vec![SlotMove {
                    keyspace: keyspace.into(),
                    source: "north-1".into(),
                    slots: SlotSet::range(0, 1),
                }],
                ..moving()
            });
            assert_eq!(from(&table).len(), want, "{keyspace}");
        }
    }
}
