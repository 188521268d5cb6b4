//! Every table that was ever in a cluster, in the order in which it was there.

use super::NAMESPACE;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use multiactive_api::RoutingTable as Object;
use multiactive_core::epoch::Epoch;
use multiactive_core::table::RoutingTable;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// The tables of one cluster since it was begun.
pub struct History {
    tables: Arc<Mutex<Vec<RoutingTable>>>,
    task: JoinHandle<()>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl History {
    pub fn follow(client: &Client) -> Self {
        let tables = Arc::<Mutex<Vec<RoutingTable>>>::default();
        let (shared, api) = (
            Arc::clone(&tables),
            Api::<Object>::namespaced(client.clone(), NAMESPACE),
        );
        let task = tokio::spawn(async move {
            let mut seen = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
            while let Some(object) = seen.next().await {
                let table = RoutingTable::try_from(&object.unwrap().spec).unwrap();
                shared.lock().unwrap().push(table);
            }
        });
        Self { tables, task }
    }

    pub fn tables(&self) -> Vec<RoutingTable> {
        self.tables.lock().unwrap().clone()
    }

    /// Every table is of a higher epoch than the one before, and so is every slot whose owner or state changed.
    pub fn grew(&self) {
        let mut before: Option<RoutingTable> = None;
        let mut slots: BTreeMap<(String, u16), (Epoch, String)> = BTreeMap::new();
        for table in self.tables() {
            if let Some(before) = before.filter(|before| *before != table) {
                assert!(
                    table.epoch > before.epoch,
                    "{} came after {}: {table:#?}",
                    table.epoch,
                    before.epoch
                );
            }
            for keyspace in &table.keyspaces {
                for span in &keyspace.spans {
                    for slot in span.first..=span.last {
                        let is = (span.epoch, format!("{:?} {:?}", span.owner, span.state));
                        let key = (keyspace.name.to_string(), slot);
                        let was = slots.insert(key, is.clone());
                        let grew = was.as_ref().is_none_or(|was| *was == is || was.0 < is.0);
                        assert!(grew, "slot {slot}: {is:?} came after {was:?}");
                    }
                }
            }
            before = Some(table);
        }
    }
}
