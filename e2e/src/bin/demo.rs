//! `make demo` and `make demo-down`.

use anyhow::Result;
use clap::{Parser, Subcommand};
use multiactive_e2e::demo::{Act, Options, ask, down, serve, state_dir, up};
use multiactive_e2e::world::Network;
use std::path::PathBuf;
use std::process::ExitCode;

/// The shop in three regions on this machine: requests to every router, a range moved and a unit emptied under load.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Where the fleet's state and the picture are kept.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell the whole story; the fleet stays up to be looked at.
    Up {
        /// How many users order at once.
        #[arg(long, default_value_t = 40)]
        users: u32,
        /// End the fleet when the story is told; the picture and every order stay.
        #[arg(long)]
        then_down: bool,
        /// Listen on loopback addresses that no other demo has, instead of those of examples/shop.
        #[arg(long)]
        own_network: bool,
    },
    /// Kill all of a region, as by a power failure: its control plane, its programs, its database.
    Kill {
        /// The region: north or south.
        region: String,
    },
    /// Start a region again that was killed, with what was on its disks.
    Start {
        /// The region.
        region: String,
    },
    /// End the fleet and remove all of it.
    Down,
    /// Run the fleet until SIGTERM.
    #[command(hide = true)]
    Serve {
        /// The loopback network, such as 127.0.0.
        #[arg(long)]
        network: Network,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode> {
    let args = Args::parse();
    let dir = match args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => state_dir(),
    };
    match args.command {
        Command::Up {
            users,
            then_down,
            own_network,
        } => {
            let network = if own_network {
                Network::of_this_process()
            } else {
                Network::EXAMPLES
            };
            return up(&Options {
                dir,
                users,
                then_down,
                network,
            })
            .await;
        }
        Command::Kill { region } => ask(&dir, Act::Kill, &region).await?,
        Command::Start { region } => ask(&dir, Act::Start, &region).await?,
        Command::Down => down(&dir).await?,
        Command::Serve { network } => {
            // A control plane that starts answers 500 for a while; the client's own lines about it help nobody.
            let filter = tracing_subscriber::EnvFilter::new("info,kube_client=off");
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .init();
            serve(&dir, network).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
