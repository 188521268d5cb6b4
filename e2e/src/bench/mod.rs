//! What the benches share: how they begin and end, what processes cost, figures and their targets.
//!
//! A bench never fails by a timing: it prints the target next to the figure. It fails where something did not work at
//! all, such as a request that failed.

pub mod audit;
pub mod by_hand;
pub mod figures;
pub mod relay;
pub mod usage;
pub mod writers;

use crate::region::Engine;
use crate::stage::Stage;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// How a bench was asked to run: `cargo bench --workspace --bench NAME -- [rounds=N] [engine=E] [logs=FOLDER]`.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// How many rounds to measure, where the bench's own number does not fit.
    pub rounds: Option<usize>,
    /// The databases' engine, `PostgreSQL`, `MariaDB` or `MySQL`.
    pub engine: Engine,
    /// Where to copy the logs of all pods, which are then those of `RUST_LOG`, or of the level `debug`.
    pub logs: Option<PathBuf>,
}

impl Arguments {
    /// `None` where this is no measurement, but `cargo test --all-targets`.
    fn read() -> Result<Option<Self>> {
        let (mut arguments, mut measure) = (Self::default(), false);
        for word in std::env::args().skip(1) {
            match word.split_once('=') {
                None if word == "--bench" => measure = true,
                Some(("rounds", number)) => arguments.rounds = Some(number.parse().context("rounds=NUMBER")?),
                Some(("engine", name)) => {
                    let mut all = Engine::ALL.into_iter();
                    let known = all.find(|engine| engine.name() == name);
                    arguments.engine = known.context("engine=PostgreSQL, engine=MariaDB or engine=MySQL")?;
                }
                Some(("logs", folder)) => arguments.logs = Some(folder.into()),
                None | Some((_, _)) => {
                    anyhow::bail!("{word}: only rounds=NUMBER, engine=NAME and logs=FOLDER are known")
                }
            }
        }
        Ok(measure.then_some(arguments))
    }

    /// The filter of the programs' logs; their own where no logs are wanted.
    pub fn filter(&self) -> Option<String> {
        self.logs.as_ref()?;
        Some(
            std::env::var("RUST_LOG")
                .unwrap_or_else(|_| "debug,kube=info,hyper=info,hyper_util=info,rustls=info".into()),
        )
    }

    /// Copies the logs of all pods, where they are wanted.
    ///
    /// # Errors
    ///
    /// Where a file cannot be copied.
    pub fn keep_logs(&self, stage: &Stage) -> Result<()> {
        let Some(folder) = &self.logs else { return Ok(()) };
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        for cluster in &stage.world.clusters {
            let from = cluster.dir().join("node/logs");
            for file in std::fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
                let file = file?;
                let to = folder.join(format!("{}_{}", cluster.name(), file.file_name().to_string_lossy()));
                std::fs::copy(file.path(), &to).with_context(|| format!("writing {}", to.display()))?;
            }
        }
        println!("  logs are in {}", folder.display());
        Ok(())
    }
}

/// Runs a bench: Ctrl-C and errors end it with all that it started.
pub fn run(bench: impl AsyncFnOnce(Arguments) -> Result<()>) -> ExitCode {
    let began = std::time::Instant::now();
    let outcome = Arguments::read().and_then(|arguments| {
        let Some(arguments) = arguments else { return Ok(false) };
        if cfg!(debug_assertions) {
            println!("NOTE: an unoptimized build; its figures say nothing");
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                done = bench(arguments) => done,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        })?;
        Ok(true)
    });
    match outcome {
        Ok(measured) => {
            if measured {
                println!("  all of it took {:.0} s", began.elapsed().as_secs_f64());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
