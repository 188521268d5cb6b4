//! The finalizer of a MemberCluster: it stays while a unit in it owns slots.

use crate::Context;
use crate::{finalizers, units};
use kube::{Api, ResourceExt};
use multiactive_api::{MemberCluster, ROUTING_TABLE};
use multiactive_core::ids::UnitName;
use multiactive_core::table::RoutingTable;

/// Holds a MemberCluster whose units own slots.
pub const MEMBER_FINALIZER: &str = "multiactive.io/member";

/// What keeps a MemberCluster that is being deleted, for people; `None` where nothing does.
pub(super) fn holders(ctx: &Context, name: &str) -> Option<String> {
    let mut holders = Vec::new();
    for unit in ctx.hub.units.all() {
        if unit.spec.cluster != name {
            continue;
        }
        let namespace = unit.namespace().unwrap_or_default();
        let unit = UnitName(unit.name_any());
        // A table that cannot be read owns what it owns: unknown is no permission.
        let needed = match ctx.hub.tables.get(&namespace, ROUTING_TABLE) {
            None => false,
            Some(object) => RoutingTable::try_from(&object.spec).map_or(true, |table| units::is_needed(&unit, &table)),
        };
        if needed {
            holders.push(format!("{namespace}/{unit}"));
        }
    }
    (!holders.is_empty()).then(|| {
        format!(
            "it is being deleted, but units in it own slots or take part in a Promotion: {}; move the slots with \
             Promotions and it goes. To keep it, take its finalizer {MEMBER_FINALIZER} off and apply it again unchanged: \
             nothing in it is deleted meanwhile",
            holders.join(", ")
        )
    })
}

/// Adds or removes the finalizer; whether that succeeded.
pub(super) async fn finalizer(ctx: &Context, object: &MemberCluster, held: bool) -> bool {
    let api: Api<MemberCluster> = Api::all(ctx.client.clone());
    finalizers::keep(&ctx.metrics, &api, object, MEMBER_FINALIZER, !held).await
}
