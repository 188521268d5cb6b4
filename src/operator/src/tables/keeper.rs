//! The newest known version of objects that this process writes: from the watch or from our own last write, whichever
//! is newer, so that a write needs no read before it.

use crate::apply::read;
use crate::error::Error;
use crate::mirror::Mirror;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// Knows the present version of each object of one namespace.
pub struct Keeper<K> {
    /// Where they are.
    pub api: Api<K>,
    mirror: Mirror<K>,
    namespace: String,
    written: BTreeMap<String, Arc<K>>,
}

impl<K> Keeper<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    /// A keeper that has written nothing yet.
    pub fn new(api: Api<K>, mirror: Mirror<K>, namespace: &str) -> Self {
        Self {
            api,
            mirror,
            namespace: namespace.to_owned(),
            written: BTreeMap::new(),
        }
    }

    /// The object as it is now, as far as is known; asks the server only where watch and own write do not tell.
    ///
    /// # Errors
    ///
    /// [`Error`] of the read: nothing is known.
    pub async fn current(&mut self, name: &str) -> Result<Option<Arc<K>>, Error> {
        let seen = self.mirror.get(&self.namespace, name);
        let newest = match (seen, self.written.get(name)) {
            (Some(seen), Some(ours)) => match (version(&*seen), version(&**ours)) {
                (Some(theirs), Some(mine)) if theirs >= mine => Some(seen),
                (Some(_), Some(_)) => Some(Arc::clone(ours)),
                (None, _) | (_, None) => None,
            },
            (Some(seen), None) => Some(seen),
            (None, None) if self.mirror.is_ready() => return Ok(None),
            // Not seen yet after we wrote it, or deleted: only the server knows.
            (None, _) => None,
        };
        match newest {
            Some(object) => Ok(Some(object)),
            None => self.ask(name).await,
        }
    }

    /// The object as it was seen last, without asking.
    pub fn known(&self, name: &str) -> Option<Arc<K>> {
        let seen = self.mirror.get(&self.namespace, name);
        seen.or_else(|| self.written.get(name).cloned())
    }

    /// The object as the server has it.
    ///
    /// # Errors
    ///
    /// [`Error`] of the read: nothing is known.
    pub async fn ask(&mut self, name: &str) -> Result<Option<Arc<K>>, Error> {
        let found = read(&self.api, name).await?.map(Arc::new);
        match &found {
            Some(object) => self.written.insert(name.to_owned(), Arc::clone(object)),
            None => self.written.remove(name),
        };
        Ok(found)
    }

    /// Takes note of what a write returned.
    pub fn wrote(&mut self, object: K) {
        self.written.insert(object.name_any(), Arc::new(object));
    }
}

/// resourceVersions of one object are numbers that grow (KEP 5504).
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}
