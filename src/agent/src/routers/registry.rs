//! What a unit's agent knows of the unit's routers. It owns who counts as connected, and what they said; sockets and
//! pods are in the files beside it.
//!
//! A router that left without a goodbye stays listed, not connected: it may still hold requests in flight, and so
//! keeps a Hold from passing until its pod is known to be gone. So does one whose pod runs and that never connected:
//! it serves clients by its table, and nobody counts their writes.

use multiactive_core::epoch::Epoch;
use multiactive_core::ids::OperationUid;
use multiactive_core::wire::{InFlight, RouterReport};
use std::collections::BTreeMap;

/// The number of one connection; a router that connects again has a new one.
pub type ConnectionId = u64;

/// One router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// Its connection; `None` while it is not connected.
    pub connection: Option<ConnectionId>,
    /// The epoch that it routes by; `None` until it has said on this connection.
    pub epoch: Option<Epoch>,
    /// Writes under way, as it said last on this connection.
    pub in_flight: Vec<InFlight>,
    /// The uid of its pod; `None` where unknown.
    pub pod: Option<String>,
    /// Whether it was ever connected, to this agent or to one before; else only its pod is known.
    pub met: bool,
}

/// The routers of one unit, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    routers: BTreeMap<String, Router>,
    /// Routers that said goodbye and whose pod may still be seen for a moment; its uid, where it was known.
    left: BTreeMap<String, Option<String>>,
    /// Whether the API server has said which pods run.
    listed: bool,
}

impl Registry {
    /// Every router, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Router)> {
        self.routers.iter().map(|(name, router)| (name.as_str(), router))
    }

    /// The router of this name.
    pub fn get(&self, name: &str) -> Option<&Router> {
        self.routers.get(name)
    }

    /// A router said hello; an older connection of the same name counts no more, nor does what was known of its pod.
    pub fn connect(&mut self, name: &str, id: ConnectionId) {
        let router = Router {
            connection: Some(id),
            met: true,
            ..Router::default()
        };
        self.left.remove(name);
        self.routers.insert(name.to_owned(), router);
    }

    /// A router said where it stands; `false` where that connection counts no more.
    pub fn report(&mut self, name: &str, id: ConnectionId, report: RouterReport) -> bool {
        let Some(router) = self
            .routers
            .get_mut(name)
            .filter(|router| router.connection == Some(id))
        else {
            return false;
        };
        router.epoch = Some(report.epoch).filter(|epoch| *epoch != Epoch::NEVER);
        router.in_flight = report.in_flight;
        true
    }

    /// A router ended on purpose, with nothing in flight: it is forgotten.
    pub fn goodbye(&mut self, name: &str, id: ConnectionId) {
        let own = self.routers.get(name).filter(|router| router.connection == Some(id));
        if let Some(pod) = own.map(|router| router.pod.clone()) {
            self.routers.remove(name);
            self.left.insert(name.to_owned(), pod);
        }
    }

    /// A connection ended without a goodbye: what the router has in flight is unknown from now on.
    pub fn lost(&mut self, name: &str, id: ConnectionId) {
        if let Some(router) = self
            .routers
            .get_mut(name)
            .filter(|router| router.connection == Some(id))
        {
            router.connection = None;
            router.in_flight.clear();
        }
    }

    /// Routers that an earlier agent knew and that have not come back yet.
    pub fn restore(&mut self, name: &str, epoch: Option<Epoch>) {
        self.routers.entry(name.to_owned()).or_insert_with(|| Router {
            epoch,
            met: true,
            ..Router::default()
        });
    }

    /// Which pods of the unit's routers run now, by name, with their uids. One that is not known is listed, not
    /// connected, for as long as it runs and has not said goodbye.
    pub fn pods_running(&mut self, pods: &BTreeMap<String, String>) {
        self.listed = true;
        self.left.retain(|name, uid| {
            let seen = pods.get(name);
            seen.is_some_and(|seen| uid.as_ref().is_none_or(|uid| uid == seen))
        });
        self.routers
            .retain(|name, router| router.met || (router.pod.is_some() && router.pod.as_ref() == pods.get(name)));
        for (name, uid) in pods.iter().filter(|(name, _)| !self.left.contains_key(*name)) {
            self.routers.entry(name.clone()).or_insert_with(|| Router {
                pod: Some(uid.clone()),
                ..Router::default()
            });
        }
    }

    /// What the API server said of the pod of this name; `None`: there is none, or it has ended.
    ///
    /// A router that is away is forgotten when its pod is gone or another. One that is connected is forgotten only
    /// where its pod was known before: the connection is half open. A connected router that never was a pod stays.
    pub fn pod_seen(&mut self, name: &str, uid: Option<&str>) {
        let Some(router) = self.routers.get_mut(name) else {
            return;
        };
        match (&router.pod, uid) {
            (Some(known), seen) if Some(known.as_str()) != seen => {
                self.routers.remove(name);
            }
            (None, None) if router.connection.is_none() => {
                self.routers.remove(name);
            }
            (None, Some(uid)) => router.pod = Some(uid.to_owned()),
            (Some(_) | None, Some(_) | None) => {}
        }
    }

    /// Writes under way for an operation whose spans changed last at `epoch`.
    ///
    /// `None` while it is unknown: there is no router, or it is not known whether another one runs; one is away or never
    /// connected, routes by an older table, or has not counted this operation.
    pub fn in_flight(&self, operation: &OperationUid, epoch: Epoch) -> Option<u64> {
        if !self.listed || self.routers.is_empty() {
            return None;
        }
        self.routers.values().try_fold(0_u64, |sum, router| {
            router.connection?;
            router.epoch.filter(|routes_by| *routes_by >= epoch)?;
            let counted = router.in_flight.iter().find(|count| count.operation == *operation)?;
            Some(sum.saturating_add(counted.writes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Epoch = Epoch::new(1, 7);

    /// The API server says that no pod of a router runs: the tests' routers are none.
    fn listed() -> Registry {
        let mut registry = Registry::default();
        registry.pods_running(&BTreeMap::new());
        registry
    }

    fn report(epoch: Epoch, writes: Option<u64>) -> RouterReport {
        let operation = OperationUid::from("op");
        let in_flight = writes
            .map(|writes| InFlight { operation, writes })
            .into_iter()
            .collect();
        RouterReport { epoch, in_flight }
    }

    #[test]
    fn a_router_whose_pod_runs_and_that_never_connected_keeps_a_hold_from_passing() {
        let pods = |pods: &[(&str, &str)]| pods.iter().map(|(name, uid)| ((*name).into(), (*uid).into())).collect();
        let mut registry = Registry::default();
        registry.connect("a", 1);
        registry.report("a", 1, report(HOLD, Some(0)));
        assert_eq!(
            registry.in_flight(&"op".into(), HOLD),
            None,
            "it is not known which pods run"
        );
        registry.pods_running(&pods(&[("a", "1")]));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), Some(0));
        registry.pods_running(&pods(&[("a", "1"), ("b", "2")]));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), None, "b runs");
        assert_eq!(
            registry.get("b").map(|router| router.connection),
            Some(None),
            "it is listed"
        );
        registry.pods_running(&pods(&[("a", "1"), ("b", "3")]));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), None, "another b runs");
        registry.connect("b", 2);
        registry.report("b", 2, report(HOLD, Some(2)));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), Some(2));
        // Its pod is seen for a moment after its goodbye, and says nothing any more; another of the name does.
        registry.goodbye("b", 2);
        registry.pods_running(&pods(&[("a", "1"), ("b", "3")]));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), Some(0));
        registry.pods_running(&pods(&[("a", "1")]));
        registry.pods_running(&pods(&[("a", "1"), ("b", "4")]));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), None);
        registry.pods_running(&pods(&[("a", "1")]));
        assert_eq!(registry.in_flight(&"op".into(), HOLD), Some(0), "it has ended");
        // Who was connected once is forgotten only when the server is asked for its own pod.
        registry.lost("a", 1);
        registry.pods_running(&pods(&[]));
        assert_eq!(registry.get("a").map(|router| router.connection), Some(None));
    }

    #[test]
    fn in_flight_is_known_only_when_every_router_has_counted_by_the_table() {
        let newer = Epoch::new(1, 8);
        let older = Epoch::new(1, 6);
        for (second, want) in [
            (Some(report(HOLD, Some(2))), Some(5)),
            (Some(report(newer, Some(0))), Some(3)),
            (Some(report(older, Some(2))), None),
            (Some(report(HOLD, None)), None),
            (None, None),
        ] {
            let mut registry = listed();
            registry.connect("a", 1);
            registry.connect("b", 2);
            assert!(registry.report("a", 1, report(HOLD, Some(3))));
            if let Some(second) = second.clone() {
                assert!(registry.report("b", 2, second));
            }
            assert_eq!(registry.in_flight(&"op".into(), HOLD), want, "b said {second:?}");
        }
    }

    #[test]
    fn without_a_router_nobody_knows_what_is_in_flight() {
        assert_eq!(listed().in_flight(&"op".into(), HOLD), None);
    }

    #[test]
    fn a_router_that_left_without_goodbye_keeps_a_hold_from_passing_until_its_pod_is_gone() {
        let mut registry = listed();
        for (name, id) in [("a", 1), ("b", 2)] {
            registry.connect(name, id);
            registry.report(name, id, report(HOLD, Some(0)));
        }
        assert_eq!(registry.in_flight(&"op".into(), HOLD), Some(0));
        registry.lost("a", 1);
        assert_eq!(registry.in_flight(&"op".into(), HOLD), None, "away");
        registry.pod_seen("a", None);
        assert_eq!(registry.in_flight(&"op".into(), HOLD), Some(0), "its pod is gone");
    }

    #[test]
    fn a_router_is_forgotten_when_its_pod_is_gone_or_another() {
        for (connected, known, seen, stays) in [
            (false, None, None, false),
            (false, None, Some("1"), true),
            (false, Some("1"), Some("1"), true),
            (false, Some("1"), Some("2"), false),
            (false, Some("1"), None, false),
            (true, None, None, true),
            (true, None, Some("1"), true),
            (true, Some("1"), Some("1"), true),
            (true, Some("1"), Some("2"), false),
            (true, Some("1"), None, false),
        ] {
            let mut registry = Registry::default();
            registry.connect("a", 1);
            if let Some(known) = known {
                registry.pod_seen("a", Some(known));
            }
            if !connected {
                registry.lost("a", 1);
            }
            registry.pod_seen("a", seen);
            let found = registry.get("a").is_some();
            assert_eq!(found, stays, "connected {connected}, known {known:?}, seen {seen:?}");
        }
    }

    #[test]
    fn words_of_an_older_connection_count_no_more() {
        let mut registry = Registry::default();
        registry.connect("a", 1);
        registry.connect("a", 2);
        assert!(!registry.report("a", 1, report(HOLD, Some(0))));
        registry.lost("a", 1);
        registry.goodbye("a", 1);
        let router = registry.get("a").unwrap();
        assert_eq!((router.connection, router.epoch), (Some(2), None));
    }

    #[test]
    fn a_goodbye_forgets_and_a_restored_router_does_not_replace_a_connected_one() {
        let mut registry = Registry::default();
        registry.connect("a", 1);
        registry.restore("a", Some(HOLD));
        registry.restore("b", Some(HOLD));
        assert_eq!(registry.get("a").unwrap().connection, Some(1));
        assert_eq!(registry.get("b").unwrap().connection, None);
        registry.goodbye("a", 1);
        assert_eq!(registry.get("a"), None);
    }

    #[test]
    fn a_router_without_a_table_routes_by_none() {
        let mut registry = Registry::default();
        registry.connect("a", 1);
        registry.report("a", 1, report(Epoch::NEVER, None));
        assert_eq!(registry.get("a").unwrap().epoch, None);
    }
}
