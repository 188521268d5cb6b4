//! The demo: the main job, told in plain words and tables, on a fleet that stays up to be looked at.

mod console;
mod moves;
mod requests;
mod supervisor;

use crate::install::Install;
use crate::world::Network;
use anyhow::Result;
use std::path::{Path, PathBuf};

pub use moves::Verdict;
pub use supervisor::{down, serve, state_dir};

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the fleet's state and the picture are kept.
    pub dir: PathBuf,
    /// How many users order at once.
    pub users: u32,
    /// Whether to end the fleet when the story is told.
    pub then_down: bool,
}

/// Tells the whole story; the fleet stays up unless `then_down`.
///
/// # Errors
///
/// Where a step fails, an order failed, or one was lost.
pub async fn up(options: &Options) -> Result<()> {
    let result = story(options).await;
    if options.then_down {
        down(&options.dir).await?;
    } else if let Err(error) = &result {
        eprintln!("\nThe demo failed: {error:#}");
        eprintln!("Its fleet is still up; each cluster's folder (beside its kubeconfig) holds the logs:");
        for region in supervisor::regions(&options.dir).unwrap_or_default() {
            eprintln!("  {}", region.kubeconfig.display());
        }
        eprintln!("`make demo-down` removes it.");
        anyhow::bail!("the demo failed");
    }
    result
}

async fn story(options: &Options) -> Result<()> {
    console::title("1. Three clusters and three databases, as processes on loopback");
    let regions = supervisor::start(&options.dir).await?;
    console::regions(&regions);

    console::title("2. The chart in each cluster, the shop on the hub");
    let install = Install {
        regions,
        network: Network::EXAMPLES,
        scratch: options.dir.clone(),
        failpoints: false,
        logs: None,
        agent_port: crate::install::AGENT_PORT,
    };
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

    console::title("5. Look around");
    look_around(&options.dir, &install);
    verdict.judge()
}

fn look_around(dir: &Path, install: &Install) {
    let routers: Vec<_> = install.regions.iter().map(|region| region.router()).collect();
    println!("  export KUBECONFIG={}", dir.join("kubeconfig").display());
    println!("  kubectl config get-contexts                        # east is the hub");
    println!("  kubectl -n shop get shardranges,units,promotions,replicationlinks");
    println!("  kubectl -n shop get routingtable routing -o yaml   # who owns what, since which epoch");
    println!("  kubectl --context north -n shop get pods,unitassignments");
    println!(
        "  curl -X POST {}/orders/1-alice                # an order of user alice, by any router",
        routers[0]
    );
    if let Some(region) = install.regions.first() {
        println!(
            "  curl '{}/route?path=/orders/1-alice'          # why it went where it went",
            region.router_admin()
        );
    }
    println!("  make demo-down                                     # remove all of it");
}
