//! A stage that is used again: what one scenario moved goes home, and what it asked for is taken away.

use crate::region::NAMESPACE;
use crate::stage::{LIMIT, Stage};
use anyhow::{Context, Result};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource};
use multiactive_api::{Promotion, ShardRange, Verification};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use tokio::time::interval;

impl Stage {
    /// Every range is owned by its home, the shop's manifests are as they were, all is Ready, and there is neither a Promotion nor a
    /// Verification.
    ///
    /// # Errors
    ///
    /// Where that is not so in time.
    pub async fn as_it_began(&self) -> Result<()> {
        self.install.shop().await?;
        self.install.ready(|_| {}).await?;
        self.none_of::<Promotion>().await?;
        self.none_of::<Verification>().await?;
        let ranges: Api<ShardRange> = Api::namespaced(self.hub.clone(), NAMESPACE);
        for range in ranges.list(&ListParams::default()).await? {
            let (name, spec) = (range.metadata.name.context("a name")?, range.spec);
            let table = self.table().await?;
            let keyspace = table.keyspace(&spec.keyspace.as_str().into());
            let spans = &keyspace.with_context(|| format!("keyspace {}", spec.keyspace))?.spans;
            let home = spec.home_unit.as_str();
            let away = spans.iter().any(|span| {
                let within = i64::from(span.last) >= i64::from(spec.first_slot)
                    && i64::from(span.first) <= i64::from(spec.last_slot);
                within && !span.is_owned_by(&home.into())
            });
            if away {
                let select = json!({"type": "Ranges", "ranges": [name]});
                // An operation's name is good for once.
                let named = format!("home-{name}-{}", table.epoch.epoch);
                self.moved(&named, home, select, "None").await?;
            }
        }
        self.none_of::<Promotion>().await
    }

    /// Deletes all of a kind, and waits until they are gone.
    async fn none_of<K>(&self) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.hub.clone(), NAMESPACE);
        api.delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        let mut tick = interval(std::time::Duration::from_millis(50));
        let gone = async {
            while !api.list_metadata(&ListParams::default()).await?.items.is_empty() {
                tick.tick().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, gone)
            .await
            .with_context(|| format!("each {} to be gone", K::kind(&())))?
    }
}
