//! A node that runs pods as processes.
//!
//! A pod whose image is `process/<program>` is started from a folder of programs, with the pod's arguments,
//! environment and volumes (below `$POD_ROOT`), and a kubeconfig with its ServiceAccount's token in `$KUBECONFIG`.
//! Its probes decide readiness; its deletion is SIGTERM, the grace period, SIGKILL.
//!
//! Pods share the machine's network, as host-network pods do. Their `podIP` is left empty: EndpointSlices refuse
//! loopback addresses. What needs a kernel's isolation (security contexts, resource limits) is not applied.
//!
//! The node has a thread and a runtime of its own, so that it outlives the runtime of a test that started it.

mod register;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{Error, Result};

/// How a node is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Node object's name.
    pub name: String,
    /// Where `process/<program>` is looked for.
    pub programs: PathBuf,
    /// Where pods have their files and logs.
    pub dir: PathBuf,
    /// An administrator's kubeconfig.
    pub kubeconfig: Value,
    /// The wait before a container is started again, doubled each time; none the first time.
    pub first_back_off: Duration,
    /// The longest such wait.
    pub longest_back_off: Duration,
}

impl Options {
    /// A node with the usual waits.
    pub fn new(name: &str, programs: &Path, dir: &Path, kubeconfig: Value) -> Options {
        Options {
            name: name.to_owned(),
            programs: programs.to_path_buf(),
            dir: dir.to_path_buf(),
            kubeconfig,
            first_back_off: Duration::from_millis(250),
            longest_back_off: Duration::from_secs(10),
        }
    }
}

/// A running node. Dropping it kills its pods' processes.
#[derive(Debug)]
pub struct Node {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    ///
    /// Where its folder, its thread or its runtime cannot be made. An API server that does not answer is no error:
    /// the node goes on trying.
    pub fn start(options: Options) -> Result<Node> {
        std::fs::create_dir_all(&options.dir).map_err(Error::io("creating", &options.dir))?;
        let io = |source| Error::Io {
            doing: format!("starting node {}", options.name),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io)?;
        let (stop, stopped) = oneshot::channel();
        let name = format!("node-{}", options.name);
        let theirs = options.clone();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    result = run(theirs) => if let Err(error) = result {
                        tracing::error!(%error, "the node ended");
                    },
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(io)?;
        Ok(Node {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take()); // a closed channel ends it, too
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let client = crate::kubeconfig::client(&options.kubeconfig).await?;
    register::keep(&client, &options).await;
    Ok(())
}
