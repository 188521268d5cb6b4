//! A unit that lives, but is cut off from the hub: its database, its links and its router go on, and clients order there. With
//! `Fence` it stops by its own database before anybody else serves its slots. With `KeepServing` it goes on, and where a person
//! says all the same that it is fenced, two units write: that word stands in the record, and what the unit took is listed once it
//! is back.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use multiactive_api::{DecisionType, Failover, FailoverStatus, ROUTING_TABLE, RoutingTable};
use multiactive_core::promotion::FencedBy;
use multiactive_core::table::RoutingTable as Owners;
use multiactive_e2e::lost::{
    MayBeLost, begin, blocked, ended, fail_over, first_at, how_it_ended, stops_within_its_lease, taken_at_once_by,
    until_unit,
};
use multiactive_e2e::open_slots::{Looked, OpenSlots};
use multiactive_e2e::promotion::myself;
use multiactive_e2e::region::{Engine, NAMESPACE};
use multiactive_e2e::stage::{LIMIT, Options, Stage, acknowledges, orders};
use multiactive_e2e::story::{Lost, Served, goes_home, judge, rejoins, served};
use multiactive_e2e::wire::Wire;
use serde_json::json;
use shop::load::{Load, Record};

/// The length of the lease with which it stops.
const LEASE: SignedDuration = SignedDuration::from_secs(5);

/// Customers of all units, whose orders come to the unit that is cut off, and to the others.
struct Customers {
    there: Load,
    elsewhere: Load,
    /// Those whose slots the unit owns that is cut off.
    of_lost: Vec<String>,
}

impl Customers {
    async fn start(stage: &Stage, name: &str, lost: &Lost) -> Result<Self> {
        let users = |at: &str| shop::load::users(24, &format!("{name}-{at}"));
        let (there, elsewhere) = (users("there"), users("elsewhere"));
        let all = [there.clone(), elsewhere.clone()].concat();
        let customers = Self {
            there: stage.load_through(&[lost.region], &there)?,
            elsewhere: stage.load_through(&["east", "north"], &elsewhere)?,
            of_lost: stage.users_of(&all, lost.unit).await?,
        };
        orders(&customers.there, 100).await;
        orders(&customers.elsewhere, 100).await;
        Ok(customers)
    }

    async fn stop(self) -> Record {
        let (mut all, elsewhere) = (self.there.stop().await, self.elsewhere.stop().await);
        println!("there: {}\nelsewhere: {}", all.summary(), elsewhere.summary());
        all.attempts.extend(elsewhere.attempts);
        all
    }
}

/// For how long both units took orders of these users; not positive where the one had stopped before the other began.
fn both_took(record: &Record, users: &[String], lost: &Lost, target: &str) -> Result<SignedDuration> {
    let first = first_at(record, users, target).context("no order at the target")?;
    let last = taken_at_once_by(record, lost.unit).map(|attempt| attempt.began).max();
    Ok(last.context("no order at the lost unit")?.duration_since(first))
}

/// What came of a cut, once it is over.
struct Outcome {
    record: Record,
    of_lost: Vec<String>,
    /// For how long both units took orders; not positive where one had stopped before the other began.
    both: SignedDuration,
    /// What was seen open.
    seen: Looked,
}

/// The wire is mended: the unit is kept apart, and the orders that come to it are served elsewhere.
async fn is_back(
    stage: &Stage,
    wire: &Wire,
    lost: &Lost,
    customers: Customers,
    (open, target): (OpenSlots, &str),
) -> Result<Outcome> {
    wire.mend();
    until_unit(&stage.hub, lost.unit, LIMIT, |ready| ready.reason == "Quarantined").await?;
    // Those of the lost unit's users, too.
    acknowledges(&customers.there, target, Timestamp::now()).await?;
    orders(&customers.there, 100).await;
    let of_lost = customers.of_lost.clone();
    let record = customers.stop().await;
    Ok(Outcome {
        both: both_took(&record, &of_lost, lost, target)?,
        seen: open.stop().await?,
        record,
        of_lost,
    })
}

/// The word, by whom, and why: in the Failover and in the record.
async fn stands_in_the_record(stage: &Stage, lost: &Lost, status: &FailoverStatus) -> Result<()> {
    let me = myself(&stage.hub).await?;
    let loss = status.loss.as_ref().context("a loss is told")?;
    ensure!(loss.confirmed_by.as_deref() == Some(me.as_str()), "{loss:?}");
    let failovers: Api<Failover> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let decisions = failovers.get(lost.failover).await?.spec.decisions;
    let mut words = decisions.iter();
    let word = words.find(|word| word.kind == DecisionType::ConfirmFenced && word.target.as_deref() == Some(lost.unit));
    let word = word.context("the word is kept in the Failover")?;
    ensure!(word.by == me, "{word:?}");
    let tables: Api<RoutingTable> = Api::namespaced(stage.hub.clone(), NAMESPACE);
    let table = Owners::try_from(&tables.get(ROUTING_TABLE).await?.spec)?;
    let done = table.finished.iter().find(|done| done.name == lost.failover);
    let fenced_by = done.and_then(|done| Some(done.loss.as_ref()?.fenced_by.clone()));
    let (by, reason) = (me, word.reason.clone());
    ensure!(
        fenced_by == Some(FencedBy::Confirmed { by, reason }),
        "the record says {fenced_by:?}"
    );
    Ok(())
}

/// Nobody fenced it, and a person says that it is.
async fn a_persons_wrong_word(stage: &Stage, wire: &Wire) -> Result<()> {
    let lost = Lost::SOUTH.by("said-to-be-fenced");
    let customers = Customers::start(stage, "said", &lost).await?;
    let open = OpenSlots::watch(&stage.world.regions);
    wire.cut();
    let spec = json!({"lostUnit": lost.unit, "maxDataLoss": "1m"});
    begin(&stage.hub, lost.failover, spec).await?;
    let needed = blocked(&stage.hub, lost.failover, DecisionType::ConfirmFenced, LIMIT).await?;
    println!("blocked: {}: {}", needed.why, needed.command);
    ensure!(
        needed.why.contains("south-1 does not answer") && needed.why.contains("KeepServing"),
        "{needed:?}"
    );

    let confirmed = Timestamp::now();
    stage.install.as_printed(stage.install.hub()?, &needed.command).await?;
    let status = how_it_ended(&stage.hub, lost.failover, LIMIT).await?;
    let Served { target, bound } = served(&status, "Confirmed")?;
    println!("it says: {:?}", status.message);
    stands_in_the_record(stage, &lost, &status).await?;
    // The word was false: orders are taken at both.
    let taken_over = Timestamp::now();
    acknowledges(&customers.elsewhere, &target, taken_over).await?;
    acknowledges(&customers.there, lost.unit, taken_over).await?;
    orders(&customers.there, 100).await;

    let outcome = is_back(stage, wire, &lost, customers, (open, &target)).await?;
    let Outcome {
        record,
        of_lost,
        both,
        seen,
    } = outcome;
    println!(
        "both took orders for {both:#}, {} slots were open in both",
        seen.twice.len()
    );
    ensure!(
        both.is_positive() && !seen.twice.is_empty(),
        "only one unit wrote, so the word was true"
    );
    let (unit, until) = (lost.unit, confirmed);
    let may_be = [MayBeLost { unit, until, bound }];
    let findings = judge(stage, &["east", "north"], &record, &of_lost, &may_be).await?;
    // Nothing that it took on its own has come to the others by any way: a person looks at it first.
    let first = first_at(&record, &of_lost, &target).context("served elsewhere")?;
    let late = taken_at_once_by(&record, unit).filter(|attempt| attempt.began > first);
    let late: Vec<_> = late.filter_map(|attempt| attempt.order.as_ref()).collect();
    let came = late.iter().find(|order| !findings.lost.contains(&order.id));
    ensure!(came.is_none(), "it came to the new owner: {came:?}");
    println!("{} orders taken while another unit served are listed", late.len());

    rejoins(stage, &lost, &findings.lost).await?;
    goes_home(stage, &[&lost], &shop::load::users(24, "said-home")).await?;
    stands_in_the_record(stage, &lost, &status).await
}

/// It stops within its lease, and nobody says anything.
async fn stops_by_itself(stage: &Stage, wire: &Wire) -> Result<()> {
    let lost = Lost::SOUTH.by("cut-off");
    let customers = Customers::start(stage, "cut", &lost).await?;
    let open = OpenSlots::watch(&stage.world.regions);
    let cut = Timestamp::now();
    wire.cut();
    let status = fail_over(&stage.hub, lost.failover, lost.unit, "15s", LIMIT).await?;
    let Served { target, bound } = served(&status, "Lease")?;
    acknowledges(&customers.elsewhere, &target, Timestamp::now()).await?;
    // Still cut off: whoever orders there is told so, and no order is taken.
    orders(&customers.there, 50).await;

    let outcome = is_back(stage, wire, &lost, customers, (open, &target)).await?;
    let Outcome {
        record,
        of_lost,
        both,
        seen,
    } = outcome;
    ensure!(both.is_negative(), "both took orders for {both:#}");
    ensure!(seen.times > 0 && seen.twice.is_empty(), "{seen:?}");
    let last = taken_at_once_by(&record, lost.unit)
        .map(ended)
        .max()
        .context("it took orders")?;
    let first = first_at(&record, &of_lost, &target).context("served elsewhere")?;
    println!(
        "its last order {:#} after the cut, the first elsewhere {:#} after it",
        last.duration_since(cut),
        first.duration_since(cut)
    );
    ensure!(last.duration_since(cut) < LEASE, "it went on for longer than its lease");
    let (unit, until) = (lost.unit, last);
    let may_be = [MayBeLost { unit, until, bound }];
    let findings = judge(stage, &["east", "north"], &record, &of_lost, &may_be).await?;

    rejoins(stage, &lost, &findings.lost).await?;
    goes_home(stage, &[&lost], &shop::load::users(24, "cut-home")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn it_stops_by_itself_or_goes_on_and_a_persons_wrong_word_is_kept_with_all_that_came_of_it() -> Result<()> {
    is_cut_off(Engine::PostgreSql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn with_mariadb_it_stops_by_itself_or_goes_on_and_a_persons_wrong_word_is_kept() -> Result<()> {
    is_cut_off(Engine::MariaDb).await
}

async fn is_cut_off(engine: Engine) -> Result<()> {
    let stage = Stage::up_with(Options {
        engine,
        ..Options::default()
    })
    .await?;
    let wire = Wire::to(&stage, "south").await?;
    a_persons_wrong_word(&stage, &wire).await?;
    stops_within_its_lease(&stage.hub, "south-1", LIMIT).await?;
    stops_by_itself(&stage, &wire).await
}
