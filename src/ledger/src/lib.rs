//! The ownership record and who may lead.
//!
//! The record changes only by compare-and-swap: that, and not the election, is what keeps two operators from both
//! deciding. An outcome that is not known is an outcome: the caller reads again and compares.

mod election;
mod kubernetes;
mod leases;

pub use election::{Election, Ended};
pub use kubernetes::KubernetesLedger;
pub use leases::{HeldLease, KubernetesLeases, LABEL as LEASE_LABEL, LeaseError, LeaseLedger, held, lease_name};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use multiactive_api::RoutingTable as Stored;
use multiactive_core::table::RoutingTable;
use std::future::Future;
use std::time::Duration;

/// How long one call may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// The largest record that is written, in bytes of JSON: etcd takes 1.5 MiB a request.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Which write of the record a table is; only good for comparing in the next commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Version(ObjectMeta);

impl Version {
    /// What the next replace sends: identity, version, and what others may have put on the object.
    pub(crate) fn of(mut metadata: ObjectMeta) -> Self {
        metadata.managed_fields = None;
        Self(metadata)
    }

    /// Its text, such as a resourceVersion; equal texts are the same write.
    pub fn as_str(&self) -> &str {
        self.0.resource_version.as_deref().unwrap_or_default()
    }

    /// The record's object, for events about it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(Stored::api_version(&()).into_owned()),
            kind: Some(Stored::kind(&()).into_owned()),
            name: self.0.name.clone(),
            namespace: self.0.namespace.clone(),
            uid: self.0.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

/// A table as the server holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The table.
    pub table: RoutingTable,
    /// Which write it is.
    pub version: Version,
    /// Who wrote it last, by the names under which they write; empty where the server does not say, or it was us.
    pub writers: Vec<String>,
}

impl Recorded {
    /// What we wrote ourselves.
    pub fn own(table: RoutingTable, version: Version) -> Self {
        Self {
            table,
            version,
            writers: Vec::new(),
        }
    }
}

/// What a commit came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Commit {
    /// The table is the record now.
    Committed(Box<Version>),
    /// Another write came first, or the record is not there any more: nothing was changed. Read again.
    Conflict,
    /// The server took the request and refused it: nothing was changed, and trying the same again will not help.
    Refused(String),
    /// It may have taken effect or not, or may still. Read again and compare.
    Unknown(String),
}

/// The record cannot be read: nothing is known of it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server did not answer, or with an error.
    #[error("reading the routing table of {namespace}: {message}")]
    Unreachable {
        /// The namespace.
        namespace: String,
        /// What happened.
        message: String,
    },
    /// It is there, but makes no sense: never overwritten, a person must look.
    #[error("the routing table of {namespace} cannot be understood: {message}")]
    Damaged {
        /// The namespace.
        namespace: String,
        /// What is wrong.
        message: String,
    },
}

/// The one place where ownership is recorded, one table a namespace.
pub trait Ledger: Send + Sync {
    /// The table as the server holds it now; `None` where the server says that there is none. Safe to cancel.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing is known, which is not the same as `None`.
    fn read(&self, namespace: &str) -> impl Future<Output = Result<Option<Recorded>, ReadError>> + Send;

    /// Replaces the record by `table` if it still is `expected`; creates it where `expected` is `None`. Where it is
    /// cancelled the outcome is unknown.
    fn commit(
        &self,
        namespace: &str,
        expected: Option<&Version>,
        table: &RoutingTable,
    ) -> impl Future<Output = Commit> + Send;
}
