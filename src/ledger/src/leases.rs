//! Write leases of units in the hub's API server: one Lease object each, in the operator's namespace, compared by its
//! resourceVersion.
//!
//! What matters for safety stands in annotations, for a Lease has no fields for it: at which table it was granted, by which
//! operation it was sealed, and the positions. `renewTime` is for people; nobody compares it.

use crate::kubernetes::text;
use crate::{Commit, Version};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{OperationUid, StoreName, UnitName};
use multiactive_core::lease::{Earlier, Lease, Seal};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// The table at which the lease was granted, such as 1.41.
pub const GRANTED: &str = "multiactive.io/granted";
/// The uid of the operation that sealed it.
pub const SEALED: &str = "multiactive.io/sealed-by";
/// The table that asked for the seal.
pub const SEALED_AT: &str = "multiactive.io/sealed-at";
/// How often it was renewed.
pub const RENEWALS: &str = "multiactive.io/renewals";
/// The positions of its stores at the last renewal, as JSON.
pub const POSITIONS: &str = "multiactive.io/positions";
/// Those of the renewals before it, the newest first, as JSON: `[["PT2.5S", {"orders": "…"}]]`, with how long before the last one each
/// was begun.
pub const EARLIER: &str = "multiactive.io/earlier-positions";
/// The label of every write lease.
pub const LABEL: &str = "multiactive.io/write-lease";

/// A lease as the ledger holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldLease {
    /// The lease.
    pub lease: Lease,
    /// Which write it is.
    pub version: Version,
    /// Its length as the holder wrote it, in whole seconds and no shorter than the one that it counts by.
    pub length: SignedDuration,
    /// When it was renewed, by the clock of whoever did: for people.
    pub renewed: Option<Timestamp>,
}

/// A lease cannot be read: nothing is known of it.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The server did not answer, or with an error.
    #[error("reading the lease: {0}")]
    Unreachable(String),
    /// It is there, but makes no sense: never renewed, a person must look.
    #[error("the lease cannot be understood: {0}")]
    Damaged(String),
}

/// Where leases are kept.
pub trait LeaseLedger: Send + Sync {
    /// The lease of a unit as the server holds it now; `None` where the server says that there is none. Safe to cancel.
    ///
    /// # Errors
    ///
    /// [`LeaseError`]: nothing is known, which is not the same as `None`.
    fn read(
        &self,
        namespace: &str,
        unit: &UnitName,
    ) -> impl Future<Output = Result<Option<HeldLease>, LeaseError>> + Send;

    /// Replaces the lease by `lease` if it still is `expected`; creates it where `expected` is `None`. Where it is
    /// cancelled, or not answered within `limit`, the outcome is unknown.
    fn write(
        &self,
        namespace: &str,
        expected: Option<&Version>,
        lease: &Lease,
        length: SignedDuration,
        limit: Duration,
    ) -> impl Future<Output = Commit> + Send;
}

/// Leases in the hub's API server. Its client must not retry by itself.
#[derive(Clone)]
pub struct KubernetesLeases {
    api: Api<LeaseObject>,
}

/// The name of a unit's Lease object.
pub fn lease_name(namespace: &str, unit: &UnitName) -> String {
    format!("{namespace}.{unit}")
}

impl KubernetesLeases {
    /// Leases in `system`, the operator's namespace in the hub.
    pub fn new(client: Client, system: &str) -> Self {
        Self {
            api: Api::namespaced(client, system),
        }
    }
}

impl LeaseLedger for KubernetesLeases {
    async fn read(&self, namespace: &str, unit: &UnitName) -> Result<Option<HeldLease>, LeaseError> {
        let name = lease_name(namespace, unit);
        match tokio::time::timeout(crate::LIMIT, self.api.get_opt(&name)).await {
            Ok(Ok(Some(object))) => held(&object)
                .map(Some)
                .map_err(|message| LeaseError::Damaged(format!("Lease {name}: {message}"))),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(LeaseError::Unreachable(text(&error))),
            Err(_) => Err(LeaseError::Unreachable(format!("no answer within {:?}", crate::LIMIT))),
        }
    }

    async fn write(
        &self,
        namespace: &str,
        expected: Option<&Version>,
        lease: &Lease,
        length: SignedDuration,
        limit: Duration,
    ) -> Commit {
        let name = lease_name(namespace, &lease.unit);
        let object = match object(&name, expected, lease, length, Timestamp::now()) {
            Ok(object) => object,
            Err(error) => return Commit::Refused(error.to_string()),
        };
        let params = PostParams::default();
        let answer = match expected {
            None => tokio::time::timeout(limit, self.api.create(&params, &object)).await,
            Some(_) => tokio::time::timeout(limit, self.api.replace(&name, &params, &object)).await,
        };
        match answer {
            Ok(Ok(written)) => Commit::Committed(Box::new(Version::of(written.metadata))),
            Ok(Err(error)) => crate::kubernetes::outcome(&error),
            Err(_) => Commit::Unknown(format!("no answer within {limit:?}")),
        }
    }
}

/// The object that says `lease`, over the one that `expected` names.
fn object(
    name: &str,
    expected: Option<&Version>,
    lease: &Lease,
    length: SignedDuration,
    now: Timestamp,
) -> serde_json::Result<LeaseObject> {
    let Lease {
        unit,
        renewals,
        granted,
        sealed,
        positions,
        earlier,
    } = lease;
    let mut metadata = expected.map_or_else(ObjectMeta::default, |Version(metadata)| metadata.clone());
    metadata.name = Some(name.to_owned());
    metadata
        .labels
        .get_or_insert_default()
        .insert(LABEL.to_owned(), "true".to_owned());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(GRANTED.to_owned(), granted.to_string());
    annotations.insert(RENEWALS.to_owned(), renewals.to_string());
    annotations.insert(POSITIONS.to_owned(), serde_json::to_string(positions)?);
    let earlier = earlier.iter().map(|Earlier { before, positions }| (before, positions));
    let earlier = serde_json::to_string(&earlier.collect::<Vec<_>>())?;
    annotations.insert(EARLIER.to_owned(), earlier);
    for (name, value) in [
        (SEALED, sealed.as_ref().map(|seal| seal.by.to_string())),
        (SEALED_AT, sealed.as_ref().map(|seal| seal.at.to_string())),
    ] {
        match value {
            Some(value) => annotations.insert(name.to_owned(), value),
            None => annotations.remove(name),
        };
    }
    // A challenger waits for as long as the holder has written: whole seconds are what the field has room for.
    let seconds = length.as_millis().saturating_add(999) / 1000;
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    Ok(LeaseObject {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(unit.to_string()),
            lease_duration_seconds: Some(seconds.max(1)),
            renew_time: (*renewals > 0).then_some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    })
}

/// Reads a Lease object.
///
/// # Errors
///
/// What it lacks, in words: it is no write lease of ours, or somebody has changed it.
pub fn held(object: &LeaseObject) -> Result<HeldLease, String> {
    if !object.labels().contains_key(LABEL) {
        return Err(format!(
            "label {LABEL} is missing: the policy that guards leases does not see it"
        ));
    }
    let spec = object.spec.as_ref();
    let unit = spec.and_then(|spec| spec.holder_identity.clone());
    let unit = unit
        .filter(|unit| !unit.is_empty())
        .ok_or("holderIdentity is missing")?;
    let annotation = |name: &str| object.annotations().get(name);
    let granted = annotation(GRANTED).ok_or(format!("annotation {GRANTED} is missing"))?;
    let granted: Epoch = granted
        .parse()
        .map_err(|error| format!("annotation {GRANTED}: {error}"))?;
    let renewals = match annotation(RENEWALS) {
        Some(renewals) => renewals
            .parse()
            .map_err(|error| format!("annotation {RENEWALS}: {error}"))?,
        None => 0,
    };
    let positions: BTreeMap<StoreName, String> = match annotation(POSITIONS) {
        Some(text) => serde_json::from_str(text).map_err(|error| format!("annotation {POSITIONS}: {error}"))?,
        None => BTreeMap::new(),
    };
    // Nothing but the measure of a loss hangs on these, and without them it is larger or unknown.
    let earlier = annotation(EARLIER).and_then(|text| serde_json::from_str::<Vec<_>>(text).ok());
    let earlier = earlier.unwrap_or_default().into_iter();
    let earlier = earlier
        .map(|(before, positions)| Earlier { before, positions })
        .collect();
    // Half a seal is one: what is not understood must not be renewed.
    let sealed = match (annotation(SEALED), annotation(SEALED_AT)) {
        (None, None) => None,
        (by, at) => {
            let at = at.ok_or(format!("annotation {SEALED_AT} is missing"))?;
            let at = at.parse().map_err(|error| format!("annotation {SEALED_AT}: {error}"))?;
            let by = by.ok_or(format!("annotation {SEALED} is missing"))?;
            Some(Seal {
                by: OperationUid(by.clone()),
                at,
            })
        }
    };
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Ok(HeldLease {
        lease: Lease {
            unit: unit.into(),
            renewals,
            granted,
            sealed,
            positions,
            earlier,
        },
        version: Version::of(object.metadata.clone()),
        length: SignedDuration::from_secs(i64::from(seconds)),
        renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            unit: "east-1".into(),
            renewals: 7,
            granted: Epoch::new(2, 41),
            sealed: Some(Seal {
                by: "uid-1".into(),
                at: Epoch::new(2, 42),
            }),
            positions: BTreeMap::from([("orders".into(), "0/1A2B3C4".to_owned())]),
            earlier: vec![Earlier {
                before: SignedDuration::from_millis(2_500),
                positions: BTreeMap::from([("orders".into(), "0/1A2B000".to_owned())]),
            }],
        }
    }

    #[test]
    fn a_lease_is_read_as_it_was_written_and_what_others_put_on_it_stays() {
        let length = SignedDuration::from_secs(10);
        for lease in [lease(), Lease::first("east-1".into(), Epoch::NEVER)] {
            let written = object("shop.east-1", None, &lease, length, Timestamp::UNIX_EPOCH).unwrap();
            let read = held(&written).unwrap();
            assert_eq!((&read.lease, read.length), (&lease, length));
            assert_eq!(read.renewed.is_some(), lease.renewals > 0);
        }
        let mut old = object("shop.east-1", None, &lease(), length, Timestamp::UNIX_EPOCH).unwrap();
        old.metadata.resource_version = Some("41".to_owned());
        old.metadata
            .labels
            .get_or_insert_default()
            .insert("team".to_owned(), "shop".to_owned());
        let version = Version::of(old.metadata);
        let granted = lease().granted_at(Epoch::new(2, 50)).unwrap();
        let over = object("shop.east-1", Some(&version), &granted, length, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(over.metadata.resource_version.as_deref(), Some("41"), "it is compared");
        assert_eq!(over.labels().get("team").map(String::as_str), Some("shop"));
        assert_eq!(held(&over).unwrap().lease, granted, "no seal is left");
    }

    #[test]
    fn what_somebody_has_changed_is_no_lease() {
        let length = SignedDuration::from_secs(10);
        let good = object("shop.east-1", None, &lease(), length, Timestamp::UNIX_EPOCH).unwrap();
        for (annotation, value, names) in [
            (GRANTED, None, "granted is missing"),
            (GRANTED, Some("soon"), "soon"),
            (RENEWALS, Some("many"), "renewals"),
            (POSITIONS, Some("{"), "positions"),
            (SEALED, None, "sealed-by is missing"),
            (SEALED_AT, None, "sealed-at is missing"),
            (SEALED_AT, Some("then"), "then"),
        ] {
            let mut bad = good.clone();
            let annotations = bad.metadata.annotations.get_or_insert_default();
            match value {
                Some(value) => annotations.insert(annotation.to_owned(), value.to_owned()),
                None => annotations.remove(annotation),
            };
            let error = held(&bad).unwrap_err();
            assert!(error.contains(names), "{error}");
        }
        let mut older = good.clone();
        let annotations = older.metadata.annotations.get_or_insert_default();
        annotations.insert(EARLIER.to_owned(), "[1]".to_owned());
        assert_eq!(held(&older).unwrap().lease.earlier, [], "it is a lease all the same");
        let mut nobody = good;
        nobody.spec = None;
        assert!(held(&nobody).is_err());
    }
}
