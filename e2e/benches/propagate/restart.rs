//! The operator restarted with everything in place: what it writes, and how long until it works again.

use crate::{Scene, change};
use anyhow::{Context, Result, ensure};
use multiactive_e2e::bench::audit::{Write, summary};
use multiactive_e2e::bench::figures::fact;
use multiactive_e2e::bench::usage::{cpu_seconds, memory_mb};
use multiactive_e2e::http::Http;
use multiactive_e2e::processes::back;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

const LIMIT: Duration = Duration::from_secs(120);
/// Without work for this long it has caught up.
const QUIET: Duration = Duration::from_millis(500);
/// How long writes are counted: longer than anything that the operator puts off.
const WATCHED: Duration = Duration::from_secs(25);

/// Measures one restart and prints it; `objects` are in each cluster.
pub async fn measure(scene: &Scene, objects: usize) -> Result<()> {
    let old = scene.operator()?;
    idle(old).await?;
    let audit = scene.audit()?;
    let mut marks = Vec::new();
    for region in scene.regions() {
        marks.push(audit.mark(&region.name)?);
    }
    let (peak_before, address) = (memory_mb(old)?.1, scene.regions()[0].address);
    let began = Instant::now();
    kill(Pid::from_raw(old), Signal::SIGTERM).context("ending the operator")?;
    back("multiactive-operator", &address.to_string(), old).await?;
    let leading = leads(&format!("http://{address}:18090/metrics"), began).await?;
    let new = scene.operator()?;
    let caught_up = idle(new).await?.duration_since(began);
    let cpu = cpu_seconds(new)?;
    let change = change_after(scene, began, &marks).await?;
    let memory = memory_mb(new)?;

    println!("\n  the operator restarted (SIGTERM) with {objects} objects of UnitWorkloads in each of 3 clusters");
    fact(
        "until it leads, ms",
        leading.as_millis(),
        "the pod's own start included",
    );
    fact(
        "until it has nothing to do any more, ms",
        caught_up.as_millis(),
        &format!("its CPU is still for {QUIET:?}"),
    );
    fact("CPU s until then", format!("{cpu:.2}"), "");
    fact("a change after that is everywhere, ms", change.0.as_millis(), "");
    let (hub, members) = (&change.1, &change.2);
    let beside = "target 0; leases are not counted";
    fact(&format!("writes to the hub in {WATCHED:?}"), hub.len(), beside);
    fact(&format!("writes to the members in {WATCHED:?}"), members.len(), beside);
    for writes in [hub, members].into_iter().filter(|writes| !writes.is_empty()) {
        println!("    {}", summary(writes));
    }
    let beside = format!(
        "target < 100; {:.0} at most; before the restart {peak_before:.0} at most",
        memory.1
    );
    fact("operator memory MB", format!("{:.0}", memory.0), &beside);
    Ok(())
}

/// What was written until [`WATCHED`] is over, in the hub and in the other members; and then the time of a change.
async fn change_after(scene: &Scene, began: Instant, marks: &[u64]) -> Result<(Duration, Vec<Write>, Vec<Write>)> {
    sleep_until((began + WATCHED).into()).await;
    let (mut hub, mut members) = (Vec::new(), Vec::new());
    for (index, (region, mark)) in scene.regions().iter().zip(marks).enumerate() {
        let writes = scene.audit()?.since(&region.name, *mark)?;
        let of = if index == 0 { &mut hub } else { &mut members };
        of.extend(writes.into_iter().filter(Write::is_ours));
    }
    let time = change::once(scene, "after-the-restart").await?;
    Ok((time, hub, members))
}

/// Waits until the operator leads; how long since `began`.
async fn leads(metrics: &str, began: Instant) -> Result<Duration> {
    let (http, mut tick) = (Http::default(), interval(Duration::from_millis(10)));
    loop {
        let said = http.call("GET", metrics).await;
        if said.is_ok_and(|said| String::from_utf8_lossy(said.body()).contains("multiactive_leader 1")) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < LIMIT, "the operator does not lead within {LIMIT:?}");
        tick.tick().await;
    }
}

/// Waits until a process has used next to no CPU for [`QUIET`]; since when.
async fn idle(pid: i32) -> Result<Instant> {
    let began = Instant::now();
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut since, mut used) = (Instant::now(), cpu_seconds(pid)?);
    while since.elapsed() < QUIET {
        tick.tick().await;
        let now = cpu_seconds(pid)?;
        // One tick of the clock is what a lease or a probe costs.
        if now > used + 0.015 {
            (since, used) = (Instant::now(), now);
        }
        ensure!(began.elapsed() < LIMIT, "process {pid} is busy for {LIMIT:?}");
    }
    Ok(since)
}
