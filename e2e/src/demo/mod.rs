//! The demo: the main job, told in plain words and tables, on a fleet that stays up to be looked at.

mod console;
mod control;
mod interrupt;
mod look;
mod loss;
mod moves;
mod ports;
mod requests;
mod state;
mod supervisor;

use crate::install::Install;
use crate::region::Region;
use crate::world::{Network, programs};
use anyhow::{Result, ensure};
use interrupt::Signals;
use look::down_command;
use multiactive_fleet::tools::Tool;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use supervisor::Fleet;

pub use control::{Act, ask};
pub use look::home_by_hand;
pub use moves::Verdict;
pub use state::state_dir;
pub use supervisor::serve;

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the fleet's state and the picture are kept.
    pub dir: PathBuf,
    /// How many users order at once.
    pub users: u32,
    /// Whether to end the fleet when the story is told.
    pub then_down: bool,
    /// Where the fleet listens.
    pub network: Network,
}

/// Tells the whole story; the fleet stays up unless `then_down`. Where it is interrupted, the exit code says by which
/// signal.
///
/// # Errors
///
/// Where a step fails, an order failed, or one was lost.
pub async fn up(options: &Options) -> Result<ExitCode> {
    programs()?;
    tools()?;
    let mut signals = Signals::listen()?;
    if state::running(&options.dir).is_none() {
        ports::ensure_free(options.network)?;
    }
    let mut fleet = Fleet::start(&options.dir, options.network)?;
    // The signal first: it reaches kubectl and helm, too, and what they say then is not why the story ends.
    let told = tokio::select! {
        biased;
        signal = signals.recv() => Err(signal),
        told = story(options, &mut fleet) => Ok(told),
    };
    match told {
        Ok(Ok(())) if fleet.is_free() => Ok(ExitCode::SUCCESS),
        Ok(Ok(())) => {
            end(&mut fleet, &mut signals).await?;
            state::clear_but_results(&options.dir)?;
            println!("\nthe fleet is gone; kept in {}:", options.dir.display());
            println!("  {}, {}, {}", state::PICTURE, state::PICTURE_OF_LOSS, state::ORDERS);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Err(error)) if fleet.is_free() => {
            eprintln!("\nThe demo failed: {error:#}");
            eprintln!("Its fleet is still up; each cluster's folder (beside its kubeconfig) holds the logs:");
            for region in state::regions(&options.dir).unwrap_or_default() {
                eprintln!("  {}", region.kubeconfig.display());
            }
            eprintln!("`{}` removes it.", down_command(&options.dir));
            anyhow::bail!("the demo failed");
        }
        Ok(Err(error)) => {
            state::save_logs(&options.dir, &state::regions(&options.dir).unwrap_or_default());
            end(&mut fleet, &mut signals).await?;
            state::clear_but_results(&options.dir)?;
            eprintln!("the fleet is gone; its logs are in {}", options.dir.display());
            Err(error)
        }
        Err(signal) if fleet.is_free() => {
            eprintln!(
                "\ninterrupted: the fleet stays up (process {}, {}); `{}` removes it",
                fleet.pid(),
                options.dir.display(),
                down_command(&options.dir)
            );
            Ok(exit_code(signal))
        }
        Err(signal) => {
            eprintln!("\ninterrupted: ending the fleet");
            end(&mut fleet, &mut signals).await?;
            state::clear(&options.dir)?;
            eprintln!("the fleet is gone");
            Ok(exit_code(signal))
        }
    }
}

/// Ends the fleet; who interrupts that does not wait for it, but it goes on ending.
async fn end(fleet: &mut Fleet, signals: &mut Signals) -> Result<()> {
    let pid = fleet.pid();
    tokio::select! {
        ended = fleet.end() => ended,
        _ = signals.recv() => anyhow::bail!("interrupted again: process {pid} still ends the fleet"),
    }
}

fn exit_code(signal: Signal) -> ExitCode {
    ExitCode::from(128 + signal as u8)
}

/// Ends a fleet that is up, and removes its folder.
///
/// # Errors
///
/// Where it does not end.
pub async fn down(dir: &Path) -> Result<()> {
    let ended = supervisor::end(dir).await?;
    state::clear(dir)?;
    println!(
        "{}",
        if ended {
            "the demo's fleet is gone"
        } else {
            "no demo is up"
        }
    );
    Ok(())
}

/// Fails where a tool is not built: that takes minutes, and is shown by `make tools` and not here.
fn tools() -> Result<()> {
    for tool in [
        Tool::KubeApiserver,
        Tool::KubeControllerManager,
        Tool::KubeScheduler,
        Tool::Kubectl,
        Tool::Etcd,
        Tool::Helm,
        Tool::Postgres,
    ] {
        let path = tool.path()?;
        ensure!(path.exists(), "{} is missing: run `make tools` first", path.display());
    }
    Ok(())
}

async fn story(options: &Options, fleet: &mut Fleet) -> Result<()> {
    console::title("1. Three clusters and three databases, as processes on loopback");
    let regions = fleet.regions().await?;
    if !options.then_down {
        fleet.let_go()?;
    }
    console::regions(&regions);

    console::title("2. The chart in each cluster, the shop on the hub");
    let install = install_of(regions, options.network, &options.dir);
    install.platform().await?;
    console::said("helm upgrade --install multiactive charts/multiactive   (in each cluster)");
    let applied = install.shop().await?;
    console::said("kubectl apply -k examples/shop/hub");
    console::lines(&applied);
    install
        .ready(|object| console::done(&format!("{object} is Ready")))
        .await?;
    console::lines(
        &install
            .kubectl(install.hub()?, &["-n", "shop", "get", "shardranges"])
            .await?,
    );

    console::title("3. Any router serves any user: the request goes to the unit that owns the user");
    requests::show(&install.regions).await?;

    console::title("4. Under load: a range moves, then a whole unit is emptied");
    let verdict = moves::run(&install, options.users, &options.dir).await?;
    console::lines(
        &install
            .kubectl(install.hub()?, &["-n", "shop", "get", "promotions"])
            .await?,
    );
    console::lines(
        &install
            .kubectl(install.hub()?, &["-n", "shop", "get", "shardranges"])
            .await?,
    );

    verdict.judge()?;

    console::title("5. Under load: a region is killed, taken over, and comes home");
    loss::run(&install, options.users, &options.dir).await?;

    if !options.then_down {
        console::title("6. Look around");
        look::around(&options.dir, &install)?;
    }
    Ok(())
}

fn install_of(regions: Vec<Region>, network: Network, dir: &Path) -> Install {
    Install {
        regions,
        network,
        scratch: dir.to_owned(),
        failpoints: false,
        logs: None,
        agent_port: crate::install::AGENT_PORT,
    }
}
