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

mod container;
mod env;
mod fields;
mod files;
mod pod;
mod pods;
mod probe;
mod register;
mod sources;
mod status;
mod tokens;
mod views;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
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
            // A developer waits for it, and no registry or node suffers from a program that ends at once.
            longest_back_off: Duration::from_secs(1),
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

/// Runs a node in this task, for ever: what `fleet node` does.
///
/// # Errors
///
/// Where the kubeconfig cannot be used.
pub async fn run(options: Options) -> Result<()> {
    let client = crate::kubeconfig::client(&options.kubeconfig).await?;
    let (sources, follow) = sources::Sources::new(&client);
    let reporter = Reporter {
        controller: "multiactive-fleet-node".into(),
        instance: Some(options.name.clone()),
    };
    let server = options.kubeconfig["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let recorder = Recorder::new(client.clone(), reporter);
    let ctx = Arc::new(Ctx {
        client: client.clone(),
        sources,
        recorder,
        server,
        options,
    });
    let pods = async {
        ctx.sources.read().await; // a Secret not read yet is not a missing one
        pods::run(ctx.clone()).await;
    };
    tokio::join!(register::keep(&client, &ctx.options), follow, pods);
    Ok(())
}

/// What the node's parts share.
struct Ctx {
    client: Client,
    sources: Arc<sources::Sources>,
    recorder: Recorder,
    server: String,
    options: Options,
}

/// Why a container does not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    reason: &'static str,
    message: String,
}

/// Where the files of one pod lie.
struct Places {
    dir: PathBuf,
}

impl Places {
    fn volumes(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    fn root(&self, container: &str) -> PathBuf {
        self.dir.join("roots").join(container)
    }
}

impl Ctx {
    fn places(&self, pod: &Pod) -> Places {
        let uid = pod.uid().unwrap_or_default();
        let name = format!("{}_{}_{uid}", pod.namespace().unwrap_or_default(), pod.name_any());
        Places {
            dir: self.options.dir.join("pods").join(name),
        }
    }

    fn log(&self, pod: &Pod, container: &str) -> PathBuf {
        log_file(
            &self.options.dir,
            &pod.namespace().unwrap_or_default(),
            &pod.name_any(),
            container,
        )
    }

    /// Host and port of the API server, as pods learn them.
    fn api_address(&self) -> (String, String) {
        let address = self.server.trim_start_matches("https://");
        let (host, port) = address.split_once(':').unwrap_or((address, "443"));
        (host.to_owned(), port.to_owned())
    }

    /// Records an event about a pod, in the background: nothing waits for it.
    fn event(&self, pod: &Pod, warning: bool, reason: &str, note: String) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        let (recorder, about) = (self.recorder.clone(), pod.object_ref(&()));
        tokio::spawn(async move {
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::debug!(%error, reason = event.reason, "recording an event");
            }
        });
    }
}

/// The log of a container; it outlives the pod.
pub fn log_file(dir: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    dir.join("logs").join(format!("{namespace}_{pod}_{container}.log"))
}
