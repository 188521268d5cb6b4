//! One member, as far as one namespace is concerned: what it reports, and the writers of what it shall hold.

use super::assignments::{self, Wanted};
use super::keeper::Keeper;
use super::projection::{self, Published};
use crate::Context;
use crate::members::Member;
use crate::mirror::Mirror;
use kube::Api;
use kube::core::DeserializeGuard;
use multiactive_api::{RoutingTable, UnitAssignment};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// One member's part in one namespace; its tasks end when it is dropped.
pub struct Site {
    /// The member.
    pub member: Arc<Member>,
    /// What its agents report.
    pub reports: Mirror<UnitAssignment>,
    table: watch::Sender<Option<Published>>,
    assignments: watch::Sender<Option<Arc<Wanted>>>,
    token: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

impl Site {
    /// Starts watches and writers; `wake` is told of every report.
    pub fn start(
        ctx: &Context,
        namespace: &str,
        member: Arc<Member>,
        wake: Arc<Notify>,
        token: CancellationToken,
    ) -> Self {
        let site = Self {
            reports: Mirror::default(),
            table: watch::Sender::new(None),
            assignments: watch::Sender::new(None),
            token,
            member,
        };
        let client = &site.member.client;
        let assignments: Api<UnitAssignment> = Api::namespaced(client.clone(), namespace);
        let touched: Arc<Notify> = Arc::default();
        let guarded: Api<DeserializeGuard<UnitAssignment>> = Api::namespaced(client.clone(), namespace);
        let (reports, told) = (site.reports.clone(), Arc::clone(&touched));
        site.spawn(ctx, async move {
            let changed = |_: &str, _: &str| {
                wake.notify_one();
                told.notify_one();
            };
            reports.run(guarded, changed).await;
        });
        let keeper = Keeper::new(assignments, site.reports.clone(), namespace);
        let wanted = site.assignments.subscribe();
        let (metrics, name) = (ctx.metrics.clone(), site.member.name.clone());
        site.spawn(
            ctx,
            assignments::run(keeper, namespace.to_owned(), wanted, touched, metrics, name),
        );
        // In the hub the record is its own projection.
        if !site.member.hub {
            site.project(ctx, namespace);
        }
        site
    }

    fn project(&self, ctx: &Context, namespace: &str) {
        let client = &self.member.client;
        let copy: Mirror<RoutingTable> = Mirror::default();
        let guarded: Api<DeserializeGuard<RoutingTable>> = Api::namespaced(client.clone(), namespace);
        let touched: Arc<Notify> = Arc::default();
        let (mirror, told) = (copy.clone(), Arc::clone(&touched));
        self.spawn(ctx, async move { mirror.run(guarded, |_, _| told.notify_one()).await });
        let api: Api<RoutingTable> = Api::namespaced(client.clone(), namespace);
        let keeper = Keeper::new(api, copy, namespace);
        let wanted = self.table.subscribe();
        let (metrics, name) = (ctx.metrics.clone(), self.member.name.clone());
        self.spawn(ctx, projection::run(keeper, wanted, touched, metrics, name));
    }

    fn spawn(&self, ctx: &Context, work: impl Future<Output = ()> + Send + 'static) {
        ctx.tasks.spawn(self.token.clone().run_until_cancelled_owned(work));
    }

    /// Gives the member a table; returns at once.
    pub fn publish(&self, table: &Published) {
        self.table.send_replace(Some(table.clone()));
    }

    /// Gives the member its assignments; tells nobody where nothing changed.
    pub fn assign(&self, wanted: Wanted) {
        self.assignments.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&wanted);
            if changed {
                *known = Some(Arc::new(wanted));
            }
            changed
        });
    }
}
