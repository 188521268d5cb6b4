//! What the UnitAssignment declares, compiled: routes, keyspaces, and the counters of their writes in flight.

use super::ViewError;
use crate::flight::{Flight, Watch};
use crate::fresh::Fresh;
use crate::headers::value;
use http::HeaderValue;
use http::uri::{Authority, Uri};
use jiff::SignedDuration;
use multiactive_api::convert::{extractor, parse_duration};
use multiactive_api::{Backend, OnMissing, Reads, UnitAssignmentSpec};
use multiactive_core::ids::{KeyspaceName, UnitName};
use multiactive_core::key::KeyExtractor;
use multiactive_core::keyspace::Keyspace;
use multiactive_core::route::Shows;
use std::sync::Arc;
use std::time::Duration;

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
    /// As of when local reads are known to show everything.
    pub fresh: Arc<Fresh>,
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
        /// Whether writes are answered with their place in the log.
        places: bool,
        /// How old what a read shows may be.
        max_lag: Option<Duration>,
    },
}

impl DeclaredKeyspace {
    /// What is known of what a read shows here: `asked` says it of the place that a client brings.
    pub fn shows(&self, asked: Shows) -> Shows {
        match (asked, self.max_lag()) {
            (Shows::Any | Shows::Enough, Some(max_lag)) if !self.fresh.is_within(max_lag) => Shows::Unknown,
            (Shows::Any, Some(_)) => Shows::Enough,
            (asked @ (Shows::Any | Shows::Enough | Shows::All | Shows::Unknown), Some(_) | None) => asked,
        }
    }

    /// Whether reads that come to this unit may be answered by it, whoever writes.
    pub fn may_read_here(&self) -> bool {
        match &self.key {
            KeyOf::Store {
                reads: Reads::Local, ..
            } => true,
            KeyOf::Store {
                reads: Reads::Writer, ..
            }
            | KeyOf::Sources { .. } => false,
        }
    }

    /// Whether writes are answered with their place in the log.
    pub fn tells_places(&self) -> bool {
        match &self.key {
            KeyOf::Store { places, .. } => *places,
            KeyOf::Sources { .. } => false,
        }
    }

    /// How old what a read shows may be; `None` where there is no bound.
    pub fn max_lag(&self) -> Option<Duration> {
        match &self.key {
            KeyOf::Store { max_lag, .. } => *max_lag,
            KeyOf::Sources { .. } => None,
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
            let known = before.and_then(|before| before.keyspaces.iter().find(|k| k.name == name));
            let fresh = known.map_or_else(Arc::default, |known| known.fresh.clone());
            let flight = known
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
                fresh,
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
            let max_lag = writer.max_lag.as_deref().map(|max_lag| {
                let max_lag = parse_duration("maxLag", max_lag);
                let max_lag = max_lag.map_err(|error| ViewError::Keyspace {
                    keyspace: name.to_string(),
                    message: error.to_string(),
                });
                max_lag.map(SignedDuration::unsigned_abs)
            });
            let key = KeyOf::Store {
                reads: writer.reads,
                places: writer.places,
                max_lag: max_lag.transpose()?,
            };
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
