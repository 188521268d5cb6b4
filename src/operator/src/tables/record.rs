//! The record of one namespace: read where it may have changed, adopted, committed, put together again where it is
//! lost, and published after each change.

use super::decide::Proposal;
use super::namespace::Namespace;
use super::projection::Published;
use super::recover::{self, Found};
use super::refusals::Attempt;
use super::view::{RecordProblem, Told};
use crate::failpoints::hit;
use crate::metrics::CommitLabels;
use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use multiactive_api::{ROUTING_TABLE, RoutingTableSpec};
use multiactive_core::diff::diff;
use multiactive_core::table::RoutingTable;
use multiactive_ledger::{Commit, Ledger, ReadError, Recorded};
use std::sync::Arc;
use tokio::time::Instant;

/// How many changes an event lists before it counts the rest.
const SHOWN: usize = 10;

/// What keeps a pass from deciding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Something that a person should see.
    Problem(RecordProblem),
    /// The members are being asked whether there ever was a record; that takes a moment after the start.
    Asking,
}

impl Hindrance {
    /// The record cannot be read or written now.
    pub fn unreachable(message: String) -> Self {
        Self::problem("RecordUnreachable", message)
    }

    fn problem(reason: &'static str, message: String) -> Self {
        Self::Problem(RecordProblem { reason, message })
    }
}

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It is the record now.
    Counted,
    /// The server refused it: set aside, all else goes on.
    Refused,
    /// It did not count, or that is not known: the record has to be read.
    Not,
}

impl Namespace {
    /// Reads the record where it is not known, or where the watch shows that somebody else changed it.
    pub(super) async fn refresh_record(&mut self) -> Result<(), Hindrance> {
        let Some(record) = &self.record else {
            return self.read_record().await;
        };
        let number = |text: &str| text.parse::<u64>().ok();
        let ours = number(record.version.as_str());
        let seen = self.ctx.hub.tables.get(&self.name, ROUTING_TABLE);
        let seen = seen.and_then(|object| number(&object.resource_version().unwrap_or_default()));
        match (seen, ours) {
            (Some(seen), Some(ours)) if seen <= ours => Ok(()),
            // Not shown yet after we created it, deleted, or written by another: only the server knows.
            (_, _) => self.read_record().await,
        }
    }

    pub(super) async fn read_record(&mut self) -> Result<(), Hindrance> {
        let found = self.ledger.read(&self.name).await.map_err(|error| match error {
            ReadError::Unreachable { message, .. } => Hindrance::unreachable(message),
            ReadError::Damaged { message, .. } => Hindrance::problem(
                "RecordDamaged",
                format!("the RoutingTable cannot be understood, ownership stays as it is: {message}"),
            ),
        })?;
        match found {
            Some(found) => self.adopt(found),
            None => self.recover().await,
        }
    }

    fn adopt(&mut self, found: Recorded) -> Result<(), Hindrance> {
        let attempted = self.attempted.take();
        if let Some(last) = self.last.clone() {
            if found.table.epoch < last.epoch {
                return Err(Hindrance::problem(
                    "RecordWentBack",
                    format!(
                        "the RoutingTable is of epoch {}, but {} was committed: restore the later one, or delete it and \
                         it is put together again from the members",
                        found.table.epoch, last.epoch
                    ),
                ));
            }
            if found.table.epoch == last.epoch && found.table != last {
                return Err(Hindrance::problem("RecordAltered", altered(&last, &found)));
            }
            if attempted.as_ref() == Some(&found.table) {
                // It had taken effect after all.
                self.tell(&last, &found.table);
            } else if found.table != last {
                self.changed_by_another(&last, &found);
            }
        }
        self.take(found);
        Ok(())
    }

    /// Somebody else wrote the record: it counts, but a person should know who and what.
    fn changed_by_another(&self, last: &RoutingTable, found: &Recorded) {
        let (who, operator) = who_wrote(found);
        let (namespace, note) = (&self.name, another(last, &found.table, &who));
        tracing::warn!(namespace, who, before = %last.epoch, after = %found.table.epoch, "{note}");
        // One that overlaps with this one tells itself what it did.
        if operator {
            return;
        }
        let seen = self.ctx.hub.tables.get(namespace, ROUTING_TABLE);
        if let Some(seen) = seen {
            let reference = seen.object_ref(&());
            self.ctx
                .event_for(reference, EventType::Warning, "ChangedByAnother", note);
        }
    }

    /// Makes a table ours: remembered and published.
    fn take(&mut self, found: Recorded) {
        if self.last.as_ref() != Some(&found.table) {
            self.publish(&found.table);
            self.last = Some(found.table.clone());
        }
        self.record = Some(found);
    }

    fn publish(&mut self, table: &RoutingTable) {
        match RoutingTableSpec::try_from(table) {
            Ok(spec) => {
                let published = Published {
                    spec: Arc::new(spec),
                    since: Instant::now(),
                };
                self.all_sites().for_each(|site| site.publish(&published));
                self.published = Some(published);
            }
            // What was committed was written the same way, so this cannot be.
            Err(error) => tracing::error!(namespace = self.name, %error, "the table cannot be published"),
        }
    }

    async fn recover(&mut self) -> Result<(), Hindrance> {
        self.record = None;
        let waited = self.settles_in().is_none();
        let table = match recover::table(&self.ctx, &self.name, self.last.as_ref(), waited).await {
            Found::New => return Ok(()),
            Found::Asking(whom) => {
                tracing::info!(
                    namespace = self.name,
                    whom,
                    "asking the members whether there ever was a record"
                );
                return Err(Hindrance::Asking);
            }
            Found::Lost(message) => return Err(Hindrance::problem("RecordLost", message)),
            Found::Unreachable(message) => return Err(Hindrance::unreachable(message)),
            Found::Table(table) => *table,
        };
        tracing::warn!(namespace = self.name, epoch = %table.epoch, "the record was lost, it is put together again");
        match self.ledger.commit(&self.name, None, &table).await {
            Commit::Committed(version) => {
                let note = format!(
                    "the record was gone, and is put together again from what the members hold: every slot has the owner that \
                     it had, at epoch {} of a new term",
                    table.epoch
                );
                self.ctx
                    .event_for(version.reference(), EventType::Warning, "RecordRestored", note);
                self.take(Recorded::own(table, *version));
                Ok(())
            }
            Commit::Conflict => Err(Hindrance::unreachable(
                "another write of the lost record came first".to_owned(),
            )),
            Commit::Refused(message) => Err(Hindrance::problem("RecordRefused", not_written(&message))),
            Commit::Unknown(message) => Err(Hindrance::unreachable(message)),
        }
    }

    /// Commits and publishes.
    pub(super) async fn commit(&mut self, proposal: Proposal) -> Result<Wrote, Hindrance> {
        let Proposal {
            table,
            subject,
            attempt,
        } = proposal;
        let (before, after) = match attempt {
            Attempt::Begin => ("admit-before-commit", "admit-after-commit"),
            Attempt::Manage
            | Attempt::Enter(_)
            | Attempt::Retarget
            | Attempt::HandOn
            | Attempt::Succeed
            | Attempt::GiveUp
            | Attempt::Return => ("step-before-commit", "step-after-commit"),
        };
        hit(before);
        let expected = self.record.as_ref().map(|record| &record.version);
        let start = Instant::now();
        let commit = self.ledger.commit(&self.name, expected, &table).await;
        let outcome = match &commit {
            Commit::Committed(_) => "committed",
            Commit::Conflict => "conflict",
            Commit::Refused(_) => "refused",
            Commit::Unknown(_) => "unknown",
        };
        self.ctx.metrics.commits.get_or_create(&CommitLabels { outcome }).inc();
        tracing::debug!(namespace = self.name, epoch = %table.epoch, outcome, took = ?start.elapsed(), "commit");
        match commit {
            Commit::Committed(version) => {
                hit(after);
                let old = self.record.take().map(|record| record.table).unwrap_or_default();
                // Published first: what follows costs time.
                self.take(Recorded::own(table.clone(), *version));
                self.refusals.committed(&subject);
                self.tell(&old, &table);
                Ok(Wrote::Counted)
            }
            Commit::Conflict => Ok(Wrote::Not),
            Commit::Unknown(message) => {
                tracing::warn!(
                    namespace = self.name,
                    message,
                    "the outcome of a commit is not known, reading again"
                );
                self.attempted = Some(table);
                Ok(Wrote::Not)
            }
            Commit::Refused(message) => {
                tracing::warn!(
                    namespace = self.name,
                    ?subject,
                    ?attempt,
                    message,
                    "the server refused a commit"
                );
                self.refusals.refused(subject, attempt, &message, Timestamp::now());
                Ok(Wrote::Refused)
            }
        }
    }

    /// Logs a commit, and hands it on to be told.
    fn tell(&self, old: &RoutingTable, table: &RoutingTable) {
        let told = Told {
            changes: diff(old, table),
            table: Arc::new(table.clone()),
        };
        for change in &told.changes {
            let operation = change.operation();
            tracing::info!(namespace = self.name, operation, epoch = %told.table.epoch, "{change}");
        }
        // The listener ends with us.
        let _ = self.told.send(told);
    }
}

/// That the server refused the record.
pub(super) fn not_written(why: &str) -> String {
    format!("the RoutingTable was not written: {why}")
}

/// Who wrote a record that is not ours, and whether that was an operator.
fn who_wrote(found: &Recorded) -> (String, bool) {
    // Writes within one second cannot be told apart, but what we wrote ourselves is known.
    let ours = |who: &&String| *who == crate::apply::FIELD_MANAGER;
    let others: Vec<_> = found.writers.iter().filter(|who| !ours(who)).cloned().collect();
    let operator = others.is_empty() && found.writers.iter().any(|who| ours(&who));
    let who = if operator {
        "another operator".to_owned()
    } else if others.is_empty() {
        "somebody else".to_owned()
    } else {
        others.join(", ")
    };
    (who, operator)
}

/// That the record is of the epoch that was read or written last, and says something else: two truths of one epoch, of
/// which agents and routers keep whichever they met first.
fn altered(last: &RoutingTable, found: &Recorded) -> String {
    let (who, _) = who_wrote(found);
    format!(
        "{who} changed the RoutingTable without taking the next epoch, so it does not count, for whoever holds {} would \
         never take it: put it back, or raise spec.epoch with the change, or delete it and it comes back as it was: {}",
        last.epoch,
        changed(last, &found.table)
    )
}

/// That somebody else changed the record: who, and what.
fn another(last: &RoutingTable, found: &RoutingTable, who: &str) -> String {
    let (before, after) = (last.epoch, found.epoch);
    format!(
        "{who} changed the routing table, epoch {before} to {after}, and it counts: {}",
        changed(last, found)
    )
}

/// What two tables differ in, the first few in words.
fn changed(last: &RoutingTable, found: &RoutingTable) -> String {
    let changes = diff(last, found);
    let mut texts: Vec<_> = changes.iter().take(SHOWN).map(ToString::to_string).collect();
    if changes.len() > SHOWN {
        texts.push(format!("and {} more changes", changes.len() - SHOWN));
    }
    if texts.is_empty() {
        texts.push("no unit, slot or step".to_owned());
    }
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiactive_core::epoch::Epoch;
    use multiactive_core::table::TableUnit;

    #[test]
    fn a_change_by_another_is_told_with_who_and_what() {
        let table = |epoch: u64, units: usize| RoutingTable {
            epoch: Epoch::new(1, epoch),
            units: (0..units)
                .map(|unit| TableUnit {
                    name: format!("u{unit}").as_str().into(),
                    router: "https://r:1".to_owned(),
                })
                .collect(),
            ..RoutingTable::default()
        };
        let told = another(&table(7, 0), &table(7, 1), "kubectl-edit");
        assert!(
            told.contains("kubectl-edit") && told.contains("unit u0 added") && told.contains("1.7"),
            "{told}"
        );
        let told = another(&table(7, 1), &table(8, 1), "x");
        assert!(
            told.contains("x changed") && told.contains("no unit, slot or step"),
            "{told}"
        );
        let told = another(&table(7, 0), &table(8, 14), "x");
        assert!(told.contains("unit u9 added") && told.contains("4 more"), "{told}");
    }
}
