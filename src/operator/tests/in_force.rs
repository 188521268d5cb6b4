//! What slots depend on stays in force, whatever is declared: Keyspaces and DataStores that are edited, deleted and
//! created again under a running deployment, and the namespaces that it runs in. On real API servers.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use multiactive_api as api;
use multiactive_operator::protection::PROTECTED;
use serde_json::{Value, json};
use support::{NAMESPACE, Operator, World, condition, eventually, keyspace, namespaced, range, store, unit_object};
use tokio_util::sync::CancellationToken;

/// Keyspaces and stores in the assignments of east-1 and north-1.
async fn published(world: &World) -> Value {
    let mut all = Vec::new();
    for (client, unit) in [(&world.hub, "east-1"), (&world.member, "north-1")] {
        let assignments: Api<api::UnitAssignment> = Api::namespaced(client.clone(), NAMESPACE);
        let spec = assignments.get(unit).await.unwrap().spec;
        all.push(json!({"keyspaces": spec.keyspaces, "stores": spec.stores}));
    }
    all.into()
}

/// The same, once both assignments were written anew: a change that does not belong there would have come along.
async fn published_anew(world: &World, mark: u16) -> Value {
    let url = format!("http://127.0.0.1:{mark}");
    for (client, unit, cluster) in [(&world.hub, "east-1", "east"), (&world.member, "north-1", "north")] {
        let mut object = unit_object(unit, cluster);
        object["spec"]["backends"][0]["url"] = url.as_str().into();
        world.apply(object).await;
        let assignments: Api<api::UnitAssignment> = Api::namespaced(client.clone(), NAMESPACE);
        eventually("the assignment has the new backend", async || {
            let spec = assignments.get(unit).await.unwrap().spec;
            (spec.backends[0].url == url).then_some(())
        })
        .await;
    }
    published(world).await
}

/// Waits for `Ready` of a Keyspace or DataStore; its message.
macro_rules! says {
    ($world:expr, $kind:ty, $name:expr, $want:expr) => {
        eventually(&format!("{} says {}", $name, $want), async || {
            let object: $kind = $world.namespaced().get_opt($name).await.unwrap()?;
            let status = object.status?;
            (condition(&status.conditions, "Ready")? == $want).then(|| status.conditions[0].message.clone())
        })
        .await
    };
}

/// Deletes an object that is held, and takes its finalizer off as a person would who insists.
async fn force<K>(world: &World, name: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let objects: Api<K> = world.namespaced();
    objects.delete(name, &DeleteParams::default()).await.unwrap();
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    objects.patch(name, &PatchParams::default(), &none).await.unwrap();
    eventually("it is gone", async || {
        objects.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_whose_slots_are_owned_stays_published() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "keyspaces").await;
    world.shop().await;
    world.served().await;
    let good = published(&world).await;
    assert_eq!(good[0]["keyspaces"][0]["name"], "users");
    let owners = world.owners().await;

    // An edit that no router could use.
    let mut unusable = keyspace();
    unusable["spec"]["key"]["sources"] = json!([{"type": "Path", "path": {"pattern": "("}}]);
    world.apply(unusable).await;
    let message = says!(world, api::Keyspace, "users", "False NotUsable");
    assert!(
        message.contains("spec.key.sources[0].path.pattern") && message.contains("the last good one stays"),
        "{message}"
    );
    assert_eq!(published_anew(&world, 9001).await, good);
    world.apply(keyspace()).await;
    says!(world, api::Keyspace, "users", "True Published");

    // Deleted, by hand or because Git has it no more.
    let keyspaces: Api<api::Keyspace> = world.namespaced();
    keyspaces.delete("users", &DeleteParams::default()).await.unwrap();
    let message = says!(world, api::Keyspace, "users", "False SlotsOwned");
    for part in [
        "east-1 owns 0-7",
        "north-1 owns 8-15",
        "users-0, users-1",
        "apply it again unchanged",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(published_anew(&world, 9002).await, good);

    // Gone all the same, and created again as another.
    force::<api::Keyspace>(&world, "users").await;
    assert_eq!(published_anew(&world, 9003).await, good);
    let (mut slots, mut overrides) = (keyspace(), keyspace());
    slots["spec"]["slots"] = 32.into();
    overrides["spec"]["overrides"] = json!([{"keys": ["vip"], "slot": 3}]);
    for (mark, another, want) in [
        (9004, slots, "False SlotsChanged"),
        (9005, overrides, "False DefinitionChanged"),
    ] {
        world.apply(another).await;
        let message = says!(world, api::Keyspace, "users", want);
        assert!(message.contains("use a new Keyspace"), "{message}");
        assert_eq!(published_anew(&world, mark).await, good);
        force::<api::Keyspace>(&world, "users").await;
    }
    world.apply(keyspace()).await;
    says!(world, api::Keyspace, "users", "True Published");
    assert_eq!(published_anew(&world, 9006).await, good);
    assert_eq!(world.owners().await, owners);

    routes_that_another_has_are_told(&world).await;
    operator.stop().await;
}

async fn routes_that_another_has_are_told(world: &World) {
    let accounts = |prefix: &str, backend: &str| {
        let mut object = keyspace();
        object["metadata"]["name"] = "accounts".into();
        object["spec"]["routes"] = json!([{"pathPrefix": prefix, "backend": backend}]);
        object
    };
    let mut all = range("accounts-0", 0, 15, "east-1");
    all["spec"]["keyspace"] = "accounts".into();
    world.apply(all).await;
    // By name it would come first; it was created later, in another second: API servers count no smaller ones.
    let users: api::Keyspace = world.namespaced().get("users").await.unwrap();
    let created = users.metadata.creation_timestamp.unwrap().0;
    eventually("a second has passed", async || {
        (jiff::Timestamp::now().as_second() > created.as_second()).then_some(())
    })
    .await;
    world.apply(accounts("/orders/", "shop")).await;
    let message = says!(world, api::Keyspace, "accounts", "False RouteTaken");
    assert!(
        message.contains("spec.routes[0].pathPrefix") && message.contains("Keyspace users"),
        "{message}"
    );
    eventually("the one that has the prefix says so too", async || {
        let users: api::Keyspace = world.namespaced().get("users").await.unwrap();
        let conditions = users.status?.conditions;
        let told = conditions[0].message.contains("Keyspace accounts declares /orders too");
        (told && condition(&conditions, "Ready")? == "True Published").then_some(())
    })
    .await;
    let published = published_anew(world, 9007).await;
    for unit in [0, 1] {
        let routes = |keyspace: usize| {
            published[unit]["keyspaces"][keyspace]["routes"]
                .as_array()
                .map(Vec::len)
        };
        assert_eq!((routes(0), routes(1)), (None, Some(1)), "{published}");
    }
    world.apply(accounts("/accounts", "ledger")).await;
    let message = says!(world, api::Keyspace, "accounts", "False NoBackend");
    assert!(
        message.contains("spec.routes[0].backend") && message.contains("no backend ledger in east-1, north-1"),
        "{message}"
    );
    world.apply(accounts("/accounts", "shop")).await;
    says!(world, api::Keyspace, "accounts", "True Published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_and_its_members_stay_in_force_while_slots_depend_on_them() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "stores").await;
    world.shop().await;
    world.served().await;
    says!(world, api::DataStore, "orders", "True MembersReady");
    protected(&world.hub, true).await;
    protected(&world.member, true).await;
    let good = published(&world).await;

    // A member of a unit that owns slots: without it nothing would be fenced there.
    let mut without = store();
    without["spec"]["members"].as_array_mut().unwrap().remove(1);
    world.apply(without.clone()).await;
    let message = says!(world, api::DataStore, "orders", "False MemberOwnsSlots");
    assert!(
        message.contains("north-1") && message.contains("slots 8-15 of Keyspace users"),
        "{message}"
    );
    assert_eq!(published_anew(&world, 9001).await, good);
    operator.stop().await;
    let operator = Operator::start(&world.hub, "stores-again").await;
    assert_eq!(published_anew(&world, 9002).await, good, "after a restart");

    // Gone all the same, and created again as another.
    force::<api::DataStore>(&world, "orders").await;
    let message = says!(world, api::Keyspace, "users", "False StoreMissing");
    assert!(message.contains("DataStore orders"), "{message}");
    assert_eq!(published_anew(&world, 9006).await, good);
    let mut another = store();
    another["spec"]["tables"][0]["shardKey"] = "id".into();
    world.apply(another).await;
    let message = says!(world, api::DataStore, "orders", "False DefinitionChanged");
    assert!(message.contains("no table orders with shardKey user_id"), "{message}");
    assert_eq!(published_anew(&world, 9003).await, good);
    force::<api::DataStore>(&world, "orders").await;
    world.apply(without).await;
    says!(world, api::DataStore, "orders", "False MemberOwnsSlots");

    // Deleted.
    let stores: Api<api::DataStore> = world.namespaced();
    stores.delete("orders", &DeleteParams::default()).await.unwrap();
    let message = says!(world, api::DataStore, "orders", "False SlotsOwned");
    assert!(message.contains("east-1 owns 0-7, north-1 owns 8-15"), "{message}");
    assert_eq!(published_anew(&world, 9004).await, good);

    // The member goes once its unit owns nothing: the Promotion fences it first.
    let now = world.epoch().await;
    world
        .promote("empty-north", "east-1", json!({"type": "Unit", "unit": "north-1"}), now)
        .await;
    assert_eq!(world.outcome("empty-north").await, "Succeeded");
    eventually("the member is gone", async || {
        let published = published(&world).await;
        let stores = |unit: usize| published[unit]["stores"].as_array().unwrap().clone();
        (stores(1).is_empty() && stores(0)[0]["peers"] == json!([])).then_some(())
    })
    .await;
    protected(&world.member, false).await;
    protected(&world.hub, true).await;
    let stored: api::DataStore = stores.get("orders").await.unwrap();
    assert!(stored.metadata.deletion_timestamp.is_some(), "the store is still held");
    assert_eq!(stored.finalizers(), ["multiactive.io/datastore"]);
    what_a_person_gives_up_goes(&world).await;
    operator.stop().await;
}

/// The end of a deployment: its store is being deleted already.
async fn what_a_person_gives_up_goes(world: &World) {
    let keyspaces: Api<api::Keyspace> = world.namespaced();
    keyspaces.delete("users", &DeleteParams::default()).await.unwrap();
    give_up::<api::Keyspace>(world, "users", "users").await;
    let message = says!(world, api::Keyspace, "users", "False SlotsOwned");
    assert!(message.contains("give up its DataStores (orders)"), "{message}");
    // Somebody annotates all objects there are with one value.
    give_up::<api::DataStore>(world, "orders", "users").await;
    assert_eq!(published_anew(world, 9005).await[0]["stores"][0]["name"], "orders");
    give_up::<api::DataStore>(world, "orders", "orders").await;
    eventually("store and keyspace are gone, and the protection", async || {
        let stores: Api<api::DataStore> = world.namespaced();
        let gone =
            stores.get_opt("orders").await.unwrap().is_none() && keyspaces.get_opt("users").await.unwrap().is_none();
        let empty = json!({"keyspaces": [], "stores": []});
        (gone && published(world).await == json!([empty, empty])).then_some(())
    })
    .await;
    protected(&world.hub, false).await;
    assert_eq!(world.owners().await, Vec::<String>::new());
}

async fn give_up<K>(world: &World, name: &str, value: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let objects: Api<K> = world.namespaced();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"multiactive.io/give-up": value}}}));
    objects.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the namespace of a cluster is protected, or is not.
async fn protected(client: &Client, want: bool) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    eventually(&format!("protected: {want}"), async || {
        let namespace = namespaces.get(NAMESPACE).await.unwrap();
        let has = namespace.labels().get(PROTECTED).is_some_and(|value| value == "true");
        (has == want).then_some(())
    })
    .await;
}

/// Databases stay open where they were open when a deployment is given up; the same manifests find them so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_and_is_applied_again_is_open_in_no_two_databases() {
    let world = World::start().await;
    let (east, north) = (CancellationToken::new(), CancellationToken::new());
    world.agent("east-1", &east);
    world.agent("north-1", &north);
    let operator = Operator::start(&world.hub, "again").await;
    world.shop().await;
    world.served().await;
    let select = json!({"type": "Unit", "unit": "east-1"});
    world.promote("away", "north-1", select, world.epoch().await).await;
    assert_eq!(world.outcome("away").await, "Succeeded");
    let open = || (world.databases.open("east-1"), world.databases.open("north-1"));
    assert_eq!(open(), (0, 16));

    world
        .namespaced::<api::DataStore>()
        .delete("orders", &DeleteParams::default())
        .await
        .unwrap();
    what_a_person_gives_up_goes(&world).await;
    assert_eq!(open(), (0, 16), "nobody closed what was given up");

    // East, the home of the first half, is ready, and nobody has told north's database.
    north.cancel();
    world.apply(store()).await;
    world.apply(keyspace()).await;
    says!(world, api::Keyspace, "users", "False SlotsWithoutOwner");
    let copies: Api<api::UnitAssignment> = world.namespaced();
    eventually("east stands at the table and waits", async || {
        let applied = copies.get("east-1").await.unwrap().status?.applied?.epoch;
        (applied == world.epoch().await
            && says_for_whom(&world)
                .await
                .ends_with("databases of north-1 are known to hold none of them open from before"))
        .then_some(())
    })
    .await;
    assert_eq!(world.owners().await, ["0-15  Unowned"]);
    world.agent("north-1", &CancellationToken::new());
    world.served().await;
    eventually("each holds its own", async || (open() == (8, 8)).then_some(())).await;
    assert_eq!(world.databases.twice(), Vec::<String>::new());
    east.cancel();
    operator.stop().await;
}

async fn says_for_whom(world: &World) -> String {
    let keyspace: api::Keyspace = world.namespaced().get("users").await.unwrap();
    let status = keyspace.status.unwrap_or_default();
    status
        .conditions
        .first()
        .map(|ready| ready.message.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyspace_that_was_never_usable_gets_no_owner_and_goes_at_once() {
    let world = World::start().await;
    world.agents();
    let operator = Operator::start(&world.hub, "never").await;
    let mut unusable = keyspace();
    unusable["spec"]["key"]["sources"] = json!([
        {"type": "Header", "header": {"name": "x-user-id"}},
        {"type": "Path", "path": {"pattern": "^/([a-z]+)/([a-z]+)"}},
    ]);
    world.apply(unusable).await;
    world.shop_without_keyspace().await;
    let message = says!(world, api::Keyspace, "users", "False NotUsable");
    assert!(
        message.contains("spec.key.sources[1].path.pattern") && message.contains("it is not published"),
        "{message}"
    );
    let spec = json!({"targetUnit": "north-1", "select": {"type": "Unit", "unit": "east-1"}, "mode": "Plan"});
    world.apply(namespaced("Promotion", "look", spec)).await;
    world.ended("look").await;
    assert_eq!(world.owners().await, Vec::<String>::new());
    let keyspaces: Api<api::Keyspace> = world.namespaced();
    keyspaces.delete("users", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", async || {
        keyspaces.get_opt("users").await.unwrap().is_none().then_some(())
    })
    .await;
    operator.stop().await;
}
