//! One member, as far as one namespace is concerned: what it reports, and the writers of what it shall hold.

use super::assignments::{self, Wanted};
use super::keeper::Keeper;
use super::projection::{self, Published};
use super::trouble::{Board, SiteProblems};
use crate::Context;
use crate::members::Member;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::supervise::supervise;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Resource};
use multiactive_api::{RoutingTable, UnitAssignment};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// One member's part in one namespace, over one connection; its tasks end when it is dropped.
pub struct Site {
    /// The member.
    pub member: Arc<Member>,
    /// What its agents report.
    pub reports: Mirror<UnitAssignment>,
    board: Board,
    table: watch::Sender<Option<Published>>,
    assignments: watch::Sender<Option<Arc<Wanted>>>,
    token: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// What the writers of one site share.
#[derive(Clone)]
pub struct Desk {
    /// The member's name.
    pub member: String,
    /// The namespace.
    pub namespace: String,
    /// Where to say what is wrong.
    pub board: Board,
    /// What to count.
    pub metrics: Metrics,
}

impl Site {
    /// Starts watches and writers; `wake` is told of every report and every problem.
    pub fn start(
        ctx: &Context,
        namespace: &str,
        member: Arc<Member>,
        wake: Arc<Notify>,
        token: CancellationToken,
    ) -> Self {
        let site = Self {
            reports: Mirror::default(),
            board: Board::new(Arc::clone(&wake)),
            table: watch::Sender::new(None),
            assignments: watch::Sender::new(None),
            token,
            member,
        };
        let desk = Desk {
            member: site.member.name.clone(),
            namespace: namespace.to_owned(),
            board: site.board.clone(),
            metrics: ctx.metrics.clone(),
        };
        site.assigns(ctx, &desk, wake);
        // In the hub the record is its own projection.
        if !site.member.hub {
            site.projects(ctx, &desk);
        }
        site
    }

    fn assigns(&self, ctx: &Context, desk: &Desk, wake: Arc<Notify>) {
        let touched: Arc<Notify> = Arc::default();
        let told = Arc::clone(&touched);
        self.follow(ctx, desk, &self.reports, move || {
            wake.notify_one();
            told.notify_one();
        });
        let (api, mirror, wanted) = (self.api(desk), self.reports.clone(), self.assignments.subscribe());
        let own = desk.clone();
        self.spawn(ctx, "assignments of a member", desk, move || {
            let keeper = Keeper::new(api.clone(), mirror.clone(), &own.namespace);
            assignments::run(keeper, wanted.clone(), Arc::clone(&touched), own.clone())
        });
    }

    fn projects(&self, ctx: &Context, desk: &Desk) {
        let (copy, touched): (Mirror<RoutingTable>, Arc<Notify>) = (Mirror::default(), Arc::default());
        let told = Arc::clone(&touched);
        self.follow(ctx, desk, &copy, move || told.notify_one());
        let (api, wanted, own) = (self.api(desk), self.table.subscribe(), desk.clone());
        self.spawn(ctx, "table of a member", desk, move || {
            let keeper = Keeper::new(api.clone(), copy.clone(), &own.namespace);
            projection::run(keeper, wanted.clone(), Arc::clone(&touched), own.clone())
        });
    }

    fn api<K>(&self, desk: &Desk) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.member.client.clone(), &desk.namespace)
    }

    /// Keeps `mirror`; `changed` is called on every change.
    fn follow<K>(
        &self,
        ctx: &Context,
        desk: &Desk,
        mirror: &Mirror<K>,
        changed: impl Fn() + Clone + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let guarded: Api<DeserializeGuard<K>> = Api::namespaced(self.member.client.clone(), &desk.namespace);
        let mirror = mirror.clone();
        self.spawn(ctx, "watch of a member", desk, move || {
            let (guarded, mirror, changed) = (guarded.clone(), mirror.clone(), changed.clone());
            async move { mirror.run(guarded, |_, _, _| changed()).await }
        });
    }

    fn spawn<F>(&self, ctx: &Context, task: &'static str, desk: &Desk, begin: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = format!("{} of {}", desk.namespace, desk.member);
        let work = supervise(desk.metrics.clone(), task, name, begin);
        ctx.tasks.spawn(self.token.clone().run_until_cancelled_owned(work));
    }

    /// What keeps the member from holding what it shall.
    pub fn problems(&self) -> SiteProblems {
        self.board.read()
    }

    /// Whether it has seen all that the member holds for the namespace.
    pub fn has_listed(&self) -> bool {
        self.reports.is_ready()
    }

    /// Gives the member a table; returns at once.
    pub fn publish(&self, table: &Published) {
        self.table.send_replace(Some(table.clone()));
    }

    /// Gives the member its assignments; tells nobody where nothing changed.
    pub fn assign(&self, wanted: &Wanted) {
        self.assignments.send_if_modified(|known| {
            let changed = known.as_deref() != Some(wanted);
            if changed {
                *known = Some(Arc::new(wanted.clone()));
            }
            changed
        });
    }
}
