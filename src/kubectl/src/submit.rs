//! Operations as they are sent: built from flags, created, tried, deleted.

use crate::cli::Move;
use crate::client::Session;
use crate::fail::{Failure, Result};
use crate::fetch;
use crate::print;
use crate::text;
use crate::view::route;
use kube::api::{DeleteParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use multiactive_api::Promotion;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// The label of objects that this program makes for a moment.
pub const MADE_FOR: &str = "multiactive.io/made-for";

/// What kind of Promotion.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Only look.
    Plan,
    /// Do it, if no slot changed after this epoch.
    Execute(i64),
}

/// The Promotion of these flags.
///
/// # Errors
///
/// Where the flags are no Promotion.
pub fn promotion(namespace: &str, name: &str, movement: &Move, select: &Value, mode: Mode) -> Result<Promotion> {
    let mut spec = json!({
        "targetUnit": movement.to,
        "select": select,
        "mode": match mode { Mode::Plan => "Plan", Mode::Execute(_) => "Execute" },
        "verify": text::word(&movement.verify),
        "budgets": {"fence": movement.fence, "drain": movement.drain},
    });
    if let Mode::Execute(epoch) = mode {
        spec["expectedEpoch"] = epoch.into();
    }
    let object = json!({"apiVersion": "multiactive.io/v1alpha1", "kind": "Promotion",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let promotion: Promotion =
        serde_json::from_value(object).map_err(|error| Failure::usage(format!("Promotion {name}: {error}")))?;
    Ok(promotion)
}

/// `spec.select` of these flags; a key becomes its slot by its Keyspace.
///
/// # Errors
///
/// Where the keyspace of a key is not known.
pub async fn select(session: &Session, movement: &Move) -> Result<Value> {
    let select = &movement.select;
    if let Some(key) = &select.key {
        let namespace = &session.namespace;
        let keyspaces = fetch::objects::<multiactive_api::Keyspace>(session, Some(namespace)).await?;
        let keyspaces = fetch::sort(keyspaces, &mut Vec::new());
        let keyspace = route::choose(&keyspaces, movement.keyspace.as_deref(), namespace)?;
        let (_, slot) = route::slot(keyspace, key)?;
        return Ok(json!({"type": "Slots", "slots": {"keyspace": keyspace.name_any(), "slots": slot.to_string()}}));
    }
    if let Some(store) = &select.store {
        return Ok(json!({"type": "DataStore", "dataStore": store}));
    }
    Ok(match (&select.unit, &select.slots) {
        (Some(unit), _) => json!({"type": "Unit", "unit": unit}),
        (None, Some((keyspace, slots))) => json!({"type": "Slots", "slots": {"keyspace": keyspace, "slots": slots}}),
        (None, None) => json!({"type": "Ranges", "ranges": select.ranges}),
    })
}

/// The Promotions of the session's namespace.
pub fn promotions(session: &Session) -> Api<Promotion> {
    Api::namespaced(session.client.clone(), &session.namespace)
}

/// An object as the server took it, without who wrote which field.
///
/// # Errors
///
/// Where it cannot be written.
pub fn as_sent(object: &impl Serialize) -> Result<Value> {
    let mut object = serde_json::to_value(object).map_err(Failure::error)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(object)
}

/// Creates an operation in its namespace, or only asks whether the server would take it.
///
/// # Errors
///
/// What the server says against it.
pub async fn create<K>(session: &Session, operation: &K, dry_run: bool) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()), operation.name_any());
    let namespace = operation.namespace().unwrap_or_else(|| session.namespace.clone());
    let api: Api<K> = Api::namespaced(session.client.clone(), &namespace);
    let params = PostParams {
        dry_run,
        field_manager: Some("kubectl-multiactive".to_owned()),
    };
    let doing = format!("creating {kind} {namespace}/{name}");
    let created = session.ask(&doing, api.create(&params, operation)).await;
    let created = created.map(|mut created| {
        if dry_run {
            // No object has them: who applies what is printed would be told that it is another one.
            let metadata = created.meta_mut();
            (metadata.uid, metadata.creation_timestamp, metadata.generation) = (None, None, None);
        }
        created
    });
    created.map_err(|failure| match &failure {
        Failure::Said { exit, message } if message.contains("already exists") => Failure::Said {
            exit: *exit,
            message: format!(
                "{message}. A name is used once: choose another one, or look at that one with kubectl -n {namespace} get {} {name}",
                kind.to_lowercase()
            ),
        },
        Failure::Said { .. } | Failure::Forbidden(_) | Failure::Closed => failure,
    })
}

/// Deletes a Promotion that was made for a moment; where that fails, says how to do it by hand.
pub async fn clear_away(session: &Session, name: &str) {
    let doing = format!("deleting Promotion {}/{name}", session.namespace);
    let deleted = session
        .ask_opt(&doing, promotions(session).delete(name, &DeleteParams::default()))
        .await;
    if let Err(failure) = deleted {
        print::note(&format!(
            "warning: {failure}\nIt changes nothing, but is left: kubectl -n {} delete promotion {name}",
            session.namespace
        ));
    }
}
