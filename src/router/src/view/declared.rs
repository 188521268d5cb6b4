//! What the UnitAssignment declares, compiled: routes, keyspaces, and the counters of their writes in flight.

use super::ViewError;
use crate::flight::{Flight, Watch};
use crate::headers::value;
use http::HeaderValue;
use http::uri::{Authority, Uri};
use multiactive_api::convert::extractor;
use multiactive_api::{Backend, OnMissing, Reads, UnitAssignmentSpec};
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::key::KeyExtractor;
use multiactive_core::keyspace::Keyspace;
use std::sync::Arc;

/// What the UnitAssignment declares.
#[derive(Debug)]
pub struct Declared {
    /// The unit.
    pub unit: UnitName,
    /// The namespace.
    pub namespace: String,
    /// Its cluster, whose agent it talks to.
    pub cluster: String,
    unit_header: HeaderValue,
    pub(super) routes: Vec<Route>,
    pub(super) keyspaces: Vec<Arc<DeclaredKeyspace>>,
}

/// A route, compiled.
#[derive(Debug)]
pub struct Route {
    /// The beginning of the path, whole segments, without a slash at the end.
    pub prefix: String,
    /// The backend's name.
    pub backend: String,
    /// Where the backend is; `None` where the unit has no usable one of this name.
    pub address: Option<Authority>,
    /// The place of its keyspace.
    pub keyspace: usize,
}

/// A keyspace, compiled.
#[derive(Debug)]
pub struct DeclaredKeyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// From key to slot.
    pub keyspace: Keyspace,
    /// Where the key is.
    pub key: KeyOf,
    /// Its writes in flight.
    pub flight: Arc<Flight>,
}

/// How a request's key is found.
#[derive(Debug)]
pub enum KeyOf {
    /// In one of these places.
    Sources {
        /// The places.
        extractor: KeyExtractor,
        /// What to do without one.
        on_missing: OnMissing,
    },
    /// It needs none: all belongs to the one slot of a store with a single writer.
    Store {
        /// Where reads go.
        reads: Reads,
    },
}

impl DeclaredKeyspace {
    /// Whether reads that come to this unit are answered by it, whoever writes.
    pub fn reads_here(&self) -> bool {
        match &self.key {
            KeyOf::Store { reads: Reads::Local } => true,
            KeyOf::Store { reads: Reads::Writer } | KeyOf::Sources { .. } => false,
        }
    }
}

impl Declared {
    /// Compiles an assignment. Counters of writes in flight go over from `before`.
    ///
    /// # Errors
    ///
    /// [`ViewError`] for the first keyspace that cannot be compiled.
    pub fn new(
        spec: &UnitAssignmentSpec,
        unit: &UnitName,
        namespace: &str,
        before: Option<&Self>,
        watch: &Arc<Watch>,
    ) -> Result<Self, ViewError> {
        if spec.unit != unit.as_str() {
            return Err(ViewError::OtherUnit(spec.unit.clone()));
        }
        let (mut routes, mut keyspaces) = (Vec::new(), Vec::new());
        let mut add = |name: KeyspaceName, keyspace: Keyspace, key: KeyOf, declared: &[multiactive_api::Route]| {
            let flight = before
                .and_then(|before| before.keyspaces.iter().find(|k| k.name == name))
                .filter(|k| k.flight.slots() == keyspace.slots())
                .map_or_else(|| Flight::new(keyspace.slots(), watch.clone()), |k| k.flight.clone());
            routes.extend(declared.iter().map(|route| Route {
                prefix: route.path_prefix.trim_end_matches('/').to_owned(),
                backend: route.backend.clone(),
                address: spec.backends.iter().find(|b| b.name == route.backend).and_then(address),
                keyspace: keyspaces.len(),
            }));
            keyspaces.push(Arc::new(DeclaredKeyspace {
                name,
                keyspace,
                key,
                flight,
            }));
        };
        for assigned in &spec.keyspaces {
            let bad = |error: &dyn std::fmt::Display| ViewError::Keyspace {
                keyspace: assigned.name.clone(),
                message: error.to_string(),
            };
            let keyspace = Keyspace::try_from(&assigned.spec).map_err(|e| bad(&e))?;
            let key = KeyOf::Sources {
                extractor: extractor(&assigned.spec).map_err(|e| bad(&e))?,
                on_missing: assigned.spec.key.on_missing,
            };
            add(assigned.name.as_str().into(), keyspace, key, &assigned.spec.routes);
        }
        for writer in &spec.writers {
            let name = KeyspaceName::of_writer(&writer.store.as_str().into());
            let key = KeyOf::Store { reads: writer.reads };
            add(name, Keyspace::single_writer(), key, &writer.routes);
        }
        // The first that matches is then the longest.
        routes.sort_by(|a, b| {
            b.prefix
                .len()
                .cmp(&a.prefix.len())
                .then_with(|| a.prefix.cmp(&b.prefix))
        });
        Ok(Self {
            unit: unit.clone(),
            namespace: namespace.to_owned(),
            cluster: spec.cluster.clone(),
            unit_header: value(unit.as_str()),
            routes,
            keyspaces,
        })
    }

    /// The keyspaces, by their places.
    pub fn keyspaces(&self) -> &[Arc<DeclaredKeyspace>] {
        &self.keyspaces
    }

    /// The unit, as a header's value.
    pub fn unit_header(&self) -> &HeaderValue {
        &self.unit_header
    }
}

fn address(backend: &Backend) -> Option<Authority> {
    let authority = backend.url.parse::<Uri>().ok().and_then(|url| {
        (url.scheme_str() == Some("http")).then_some(())?;
        url.into_parts().authority
    });
    if authority.is_none() {
        tracing::error!(
            backend = backend.name,
            url = backend.url,
            "not an http URL with host and port"
        );
    }
    authority
}
