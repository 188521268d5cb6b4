//! The command line: what there is to say. One file for each verb that is more than a line.

mod logs;
mod progress;
mod status;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use multiactive_fleet::{node, state, supervisor, tools};

/// Real Kubernetes clusters and PostgreSQL servers as processes on this machine.
#[derive(Debug, Parser)]
#[command(name = "fleet", version)]
pub(crate) struct Args {
    /// Say more about what happens.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a fleet and leave it running in the background.
    Up(up::Up),
    /// End a fleet and remove every trace of it, also after a crash.
    Down {
        /// Which one; not needed when there is only one.
        #[arg(long)]
        name: Option<String>,
    },
    /// Show what runs.
    Status {
        /// Which one; not needed when there is only one.
        #[arg(long)]
        name: Option<String>,
        /// The format.
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print the kubeconfig, with a context for each cluster.
    Kubeconfig {
        /// Which one; not needed when there is only one.
        #[arg(long)]
        name: Option<String>,
        /// Print where the file is instead.
        #[arg(long)]
        path: bool,
    },
    /// Print the log of a part (etcd, kube-apiserver, …) or of a pod.
    Logs(logs::Logs),
    /// Build or unpack the programs that fleets need.
    Tools {
        /// Which ones, such as etcd or postgres; all of them without a name.
        #[arg(value_parser = tool)]
        programs: Vec<tools::Tool>,
    },
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run a node whose pods are processes, for a cluster of your own.
    Node {
        /// The Node object's name.
        #[arg(long)]
        name: String,
        /// An administrator's kubeconfig.
        #[arg(long, env = "KUBECONFIG")]
        kubeconfig: PathBuf,
        /// Where the programs lie that pods name as process/<program>.
        #[arg(long)]
        programs: PathBuf,
        /// Where pods have their files and logs.
        #[arg(long)]
        dir: PathBuf,
    },
    /// What `up` starts in the background.
    #[command(hide = true)]
    Run {
        #[arg(long)]
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

/// Does what was asked.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    match args.verb {
        Verb::Up(up) => return up::run(up).await,
        Verb::Down { name } => down(name).await?,
        Verb::Status { name, output } => return status::run(name, output),
        Verb::Kubeconfig { name, path } => {
            let state = supervisor::find(&one(name)?)?;
            let file = state.kubeconfig();
            if path {
                println!("{}", file.display());
            } else {
                print!(
                    "{}",
                    std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?
                );
            }
        }
        Verb::Logs(logs) => logs::run(logs).await?,
        Verb::Tools { programs } => {
            let wanted = if programs.is_empty() {
                let all = tools::Tool::ALL.into_iter();
                all.filter(|tool| !tool.is_optional()).collect()
            } else {
                programs
            };
            progress::ensure(&wanted).await?;
            for tool in wanted {
                println!(
                    "{:<24} {:<10} {}",
                    tool.program(),
                    tool.version()?,
                    tool.path()?.display()
                );
            }
        }
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "fleet", &mut std::io::stdout());
        }
        Verb::Node {
            name,
            kubeconfig,
            programs,
            dir,
        } => {
            let text =
                std::fs::read_to_string(&kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
            let value: serde_json::Value = serde_yaml::from_str(&text).context("reading the kubeconfig")?;
            std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
            tokio::select! {
                result = node::run(node::Options::new(&name, &programs, &dir, value)) => result?,
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Verb::Run { name } => supervisor::run(&name).await.map_err(flat)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The tool whose program has this name.
fn tool(name: &str) -> Result<tools::Tool, String> {
    let all = tools::Tool::ALL;
    let names = all.map(tools::Tool::program).join(", ");
    let found = all.into_iter().find(|tool| tool.program() == name);
    found.ok_or_else(|| format!("no such program; there are {names}"))
}

async fn down(name: Option<String>) -> Result<()> {
    if name.is_none() && state::names().is_empty() {
        eprintln!("there is no fleet");
        return Ok(());
    }
    let name = one(name)?;
    let spinner = progress::Lines::new();
    spinner.say(&name, "ending");
    let existed = supervisor::down(&name).await?;
    spinner.done(
        &name,
        if existed {
            "removed"
        } else {
            "there is no fleet of this name"
        },
    );
    Ok(())
}

/// The named fleet, or the only one.
fn one(name: Option<String>) -> Result<String> {
    if let Some(name) = name {
        return Ok(name);
    }
    let mut names = state::names();
    match (names.len(), names.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) | (_, None) => bail!("there is no fleet; start one with `fleet up`"),
        (_, Some(last)) => bail!(
            "there are several fleets: choose with --name {} or {last}",
            names.join(", ")
        ),
    }
}

/// The supervisor's log is read by people, too: causes on the same line.
fn flat(error: multiactive_fleet::Error) -> anyhow::Error {
    anyhow::anyhow!(multiactive_fleet::error::chain(&error))
}
