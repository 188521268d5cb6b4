//! The members of one namespace: one site for each member that a unit lives in, that was reached, and that allows the
//! namespace; what they report, and what they shall hold.

use super::Inputs;
use super::assign::assignment;
use super::assignments::{Want, Wanted};
use super::namespace::Namespace;
use super::site::Site;
use crate::conditions::is_ready;
use crate::members::Member;
use crate::status::is_paused;
use crate::units::is_needed;
use kube::ResourceExt;
use multiactive_api::Unit;
use multiactive_core::ids::UnitName;
use multiactive_core::table::RoutingTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Namespace {
    /// Starts the sites of members that came, ends those of members that went. Where a member is reached in another
    /// way the old site stays until the new one knows as much: a rotated kubeconfig is no reason to know nothing.
    pub(super) fn refresh_sites(&mut self) {
        let units = self.ctx.hub.units.of(&self.name);
        self.members = self.ctx.members.all();
        let wanted: BTreeMap<_, _> = units
            .iter()
            .filter_map(|unit| self.members.get(&unit.spec.cluster))
            .filter(|member| member.allows(&self.name))
            .map(|member| (member.name.clone(), Arc::clone(member)))
            .collect();
        self.sites.retain(|name, _| wanted.contains_key(name));
        self.coming.retain(|name, _| wanted.contains_key(name));
        for (name, member) in wanted {
            match self.sites.get_mut(&name) {
                None => {
                    let site = self.start_site(member);
                    self.sites.insert(name, site);
                }
                Some(site) if site.member.connection == member.connection => {
                    site.member = member;
                    self.coming.remove(&name);
                }
                Some(_) => self.change_site(name, member),
            }
        }
    }

    /// Goes on with the change to another connection.
    fn change_site(&mut self, name: String, member: Arc<Member>) {
        let mut coming = match self.coming.remove(&name) {
            Some(coming) if coming.member.connection == member.connection => coming,
            Some(_) | None => self.start_site(Arc::clone(&member)),
        };
        coming.member = member;
        if coming.has_listed() {
            self.sites.insert(name, coming);
        } else {
            self.coming.insert(name, coming);
        }
    }

    fn start_site(&self, member: Arc<Member>) -> Site {
        let token = self.token.child_token();
        let site = Site::start(&self.ctx, &self.name, member, Arc::clone(&self.wake), token);
        if let Some(published) = &self.published {
            site.publish(published);
        }
        site
    }

    /// Also those over new connections: they write before they are listened to.
    pub(super) fn all_sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.values().chain(self.coming.values())
    }

    pub(super) fn inputs(&mut self) -> Inputs {
        let units = self.ctx.hub.units.of(&self.name);
        let mut reports = BTreeMap::new();
        let (mut reachable, mut away) = (BTreeSet::new(), BTreeSet::new());
        for unit in units {
            let name = unit.name_any();
            // The site's own member may be the one of an earlier connection.
            let answers = match self.members.get(&unit.spec.cluster) {
                Some(member) => Some(member.is_ready()),
                None => self.said_ready(&unit.spec.cluster),
            };
            if answers == Some(false) {
                away.insert(UnitName(name.clone()));
            }
            let Some(site) = self.sites.get(&unit.spec.cluster) else {
                continue;
            };
            if answers == Some(true) {
                reachable.insert(UnitName(name.clone()));
            }
            if let Some(report) = site.reports.get(&self.name, &name) {
                reports.insert(UnitName(name), report);
            }
        }
        let table = self.record.as_ref().map(|record| &record.table);
        let mut inputs = Inputs::look(&self.ctx, &self.name, reports, (reachable, away), table);
        self.homes = self.homes.next(&inputs.keyspaces, &inputs.ranges, &inputs.units);
        inputs.homes = self.homes.clone();
        inputs
    }

    /// What the status of a member says that this process has not reached: an operator that starts while a member is
    /// away does not wait for it.
    fn said_ready(&self, cluster: &str) -> Option<bool> {
        let object = self.ctx.hub.members.get("", cluster)?;
        is_ready(&object.status.as_ref()?.conditions).filter(|ready| !ready)
    }

    /// Units whose member has not had the time to say what it holds.
    pub(super) fn unsettled(&self, inputs: &Inputs) -> BTreeSet<UnitName> {
        if self.settles_in().is_none() {
            return BTreeSet::new();
        }
        let silent = inputs.units.iter().filter(|unit| !self.has_said(unit));
        silent.map(|unit| unit.name_any().into()).collect()
    }

    fn has_said(&self, unit: &Unit) -> bool {
        let cluster = &unit.spec.cluster;
        match self.sites.get(cluster) {
            Some(site) => site.has_listed(),
            // It was reached and does not allow the namespace, or there is none: that is known.
            None => self.members.contains_key(cluster) || self.ctx.hub.members.get("", cluster).is_none(),
        }
    }

    pub(super) fn assign(&mut self, inputs: &Inputs, terminating: Option<bool>) {
        let Some(record) = &self.record else { return };
        // What a unit holds may have to stay, so it is known before.
        let listed = self
            .sites
            .iter()
            .chain(&self.coming)
            .filter(|(_, site)| site.has_listed());
        for (name, site) in listed {
            let mut wanted = Wanted::new();
            for unit in inputs.units.iter().filter(|unit| unit.spec.cluster == *name) {
                if let Some(want) = want(unit, inputs, &record.table, terminating) {
                    wanted.insert(unit.name_any(), want);
                }
            }
            site.assign(&wanted);
        }
    }
}

/// What shall become of a unit's assignment.
fn want(unit: &Unit, inputs: &Inputs, table: &RoutingTable, terminating: Option<bool>) -> Option<Want> {
    if is_paused(unit) {
        return None;
    }
    let leaving = unit.metadata.deletion_timestamp.is_some() && !is_needed(&unit.name_any().into(), table);
    if leaving {
        // A namespace that is being deleted takes nothing with it in the members, nor does one that may be.
        return (terminating == Some(false)).then_some(Want::Gone);
    }
    Some(Want::Be(Box::new(assignment(unit, inputs, table))))
}
