//! One real control plane: etcd, API server, controller manager and scheduler as processes, and a node.
//!
//! All of it on loopback, with an authority of its own that the kubeconfig trusts. Ports and data survive the stop of
//! a part. What the parts are told is in `parts`.

mod parts;
mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kube::Client;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::certs::Authority;
use crate::node::{self, Node};
use crate::process::Process;
use crate::tools::{Tool, ensure};
use crate::{Error, Result, janitor, kubeconfig, ports};

pub use parts::Part;

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name: that of its context and of its node.
    pub name: String,
    /// Where it keeps everything, removed when the cluster is dropped. A temporary folder when `None`, removed also
    /// when our process is killed.
    pub dir: Option<PathBuf>,
    /// Only etcd and the API server. No namespace is ever finally deleted there, nothing is scheduled, and pods need
    /// no ServiceAccount.
    pub api_server_only: bool,
    /// More flags for the API server.
    pub api_server_args: Vec<String>,
    /// Where the programs lie that pods name as `process/<program>`; without it there is no such node.
    pub programs: Option<PathBuf>,
    /// Nodes simulated by kwok, for pods that are only counted.
    pub simulated_nodes: usize,
}

impl Options {
    /// A whole cluster without nodes.
    pub fn new(name: &str) -> Options {
        Options {
            name: name.to_owned(),
            dir: None,
            api_server_only: false,
            api_server_args: Vec::new(),
            programs: None,
            simulated_nodes: 0,
        }
    }

    /// etcd and the API server.
    pub fn api_server_only(name: &str) -> Options {
        Options {
            api_server_only: true,
            ..Options::new(name)
        }
    }

    /// With a node that runs pods as processes, from programs in `dir`.
    #[must_use]
    pub fn programs(mut self, dir: impl Into<PathBuf>) -> Options {
        self.programs = Some(dir.into());
        self
    }
}

/// A cluster. Dropping it ends its processes and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    dir: PathBuf,
    ports: Ports,
    authority: Authority,
    admin: Value,
    parts: Mutex<BTreeMap<Part, Arc<Process>>>,
    node: Mutex<Option<Node>>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    api: u16,
    etcd: u16,
    etcd_peer: u16,
}

const START_LIMIT: Duration = Duration::from_secs(180);
/// An API server with open watches would take a minute; what it acknowledged is in etcd.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Cluster {
    /// Starts a cluster; returns when its API server is ready and, where they exist, its controllers and its node.
    ///
    /// # Errors
    ///
    /// Where a program cannot be had or a part does not become ready.
    pub async fn start(options: Options) -> Result<Cluster> {
        let tools: Vec<Tool> = parts::wanted(&options).iter().map(|part| part.tool()).collect();
        tokio::task::spawn_blocking(move || tools.into_iter().try_for_each(|tool| ensure(tool).map(drop)))
            .await
            .map_err(|error| Error::Refused(format!("preparing the tools was interrupted: {error}")))??;
        let cluster = Cluster::make(options)?;
        cluster.bring_up().await?;
        Ok(cluster)
    }

    /// Starts everything again after [`Cluster::stop`], on the same ports and data; returns as [`Cluster::start`] does.
    ///
    /// # Errors
    ///
    /// Where a part does not become ready.
    pub async fn restart(&self) -> Result<()> {
        self.bring_up().await
    }

    async fn bring_up(&self) -> Result<()> {
        self.start_part(Part::Etcd).await?;
        self.start_part(Part::ApiServer).await?;
        for part in parts::wanted(&self.options)
            .into_iter()
            .filter(|part| !matches!(part, Part::Etcd | Part::ApiServer))
        {
            self.start_part(part).await?;
        }
        self.start_node().await?;
        self.ready().await
    }

    fn make(options: Options) -> Result<Cluster> {
        let dir = match &options.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(Error::io("creating", dir))?;
                dir.clone()
            }
            None => {
                let made = tempfile::Builder::new().prefix("multiactive-cluster-").tempdir();
                made.map_err(Error::io("creating a folder in", &std::env::temp_dir()))?
                    .keep()
            }
        };
        janitor::remember(&dir);
        let ports = Ports {
            api: ports::free()?,
            etcd: ports::free()?,
            etcd_peer: ports::free()?,
        };
        let authority = Authority::new(&format!("{} cluster", options.name))?;
        let server = format!("https://127.0.0.1:{}", ports.api);
        let user = authority.client("admin", Some("system:masters"))?;
        let admin = kubeconfig::for_certificate(&options.name, &server, authority.cert(), &user);
        let cluster = Cluster {
            options,
            dir,
            ports,
            authority,
            admin,
            parts: Mutex::default(),
            node: Mutex::default(),
        };
        parts::write_files(&cluster)?;
        Ok(cluster)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// The kubeconfig of an administrator, with one context named after the cluster.
    pub fn kubeconfig(&self) -> &Value {
        &self.admin
    }

    /// The same as a file.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The kubeconfig of any other user, in at most one group beside `system:authenticated`.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`].
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<Value> {
        self.kubeconfig_until(user, group, None)
    }

    /// As [`Cluster::kubeconfig_for`], with a certificate that is good only until then.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`].
    pub fn kubeconfig_until(&self, user: &str, group: Option<&str>, until: Option<SystemTime>) -> Result<Value> {
        let pair = self.authority.client_until(user, group, until)?;
        Ok(kubeconfig::for_certificate(
            self.name(),
            &self.server(),
            self.authority.cert(),
            &pair,
        ))
    }

    /// An administrator's client.
    ///
    /// # Errors
    ///
    /// As [`kubeconfig::client`].
    pub async fn client(&self) -> Result<Client> {
        kubeconfig::client(&self.admin).await
    }

    /// The client of another user; see [`Cluster::kubeconfig_for`].
    ///
    /// # Errors
    ///
    /// As [`Cluster::kubeconfig_for`] and [`kubeconfig::client`].
    pub async fn client_for(&self, user: &str, group: Option<&str>) -> Result<Client> {
        kubeconfig::client(&self.kubeconfig_for(user, group)?).await
    }

    /// Runs kubectl as an administrator and gives what it printed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with its error output where it fails.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let program = ensure(Tool::Kubectl)?;
        let mut command = tokio::process::Command::new(&program);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig_path())
            .args(args)
            .kill_on_drop(true);
        let output = command.output().await.map_err(Error::io("running", &program))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Refused(format!("kubectl {}: {said}", args.join(" "))))
    }

    /// Starts a part that was stopped, on the same port and data; does nothing while it runs.
    ///
    /// # Errors
    ///
    /// Where it does not become ready.
    pub async fn start_part(&self, part: Part) -> Result<()> {
        if self.pid(part).is_some() {
            return Ok(());
        }
        let process = self.launch(part)?;
        match part {
            Part::Etcd => wait::listens(&process, part, self.ports.etcd).await,
            Part::ApiServer => wait::api_server(&process, &self.admin).await,
            Part::ControllerManager | Part::Scheduler | Part::Kwok => Ok(()),
        }
    }

    /// Asks a part to end and waits for it.
    pub async fn stop_part(&self, part: Part) {
        let process = self.parts().remove(&part);
        if let Some(process) = process {
            process.stop(Signal::SIGTERM, STOP_GRACE).await;
        }
    }

    /// Kills a part.
    pub async fn kill_part(&self, part: Part) {
        let process = self.parts().remove(&part);
        if let Some(process) = process {
            process.stop(Signal::SIGKILL, STOP_GRACE).await;
        }
    }

    /// The process of a part; `None` while it does not run.
    pub fn pid(&self, part: Part) -> Option<i32> {
        self.parts()
            .get(&part)
            .filter(|process| process.ended().is_none())
            .map(|process| process.pid())
    }

    /// The log of a part.
    pub fn log(&self, part: Part) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", part.name()))
    }

    /// The parts that were started and not stopped since.
    pub fn running(&self) -> Vec<(Part, i32)> {
        self.parts()
            .iter()
            .filter(|(_, process)| process.ended().is_none())
            .map(|(p, x)| (*p, x.pid()))
            .collect()
    }

    /// Ends everything in good order. Dropping does the same with less patience.
    pub async fn stop(&self) {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(node) = node {
            let _ = tokio::task::spawn_blocking(move || drop(node)).await;
        }
        for part in [
            Part::Kwok,
            Part::Scheduler,
            Part::ControllerManager,
            Part::ApiServer,
            Part::Etcd,
        ] {
            // Nobody needs a clean end of these: what they hold is in etcd, which is about to go.
            self.kill_part(part).await;
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<Part, Arc<Process>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, part: Part) -> Result<Arc<Process>> {
        let process = Arc::new(Process::start(&parts::spec(self, part)?)?);
        self.parts().insert(part, process.clone());
        Ok(process)
    }

    async fn start_node(&self) -> Result<()> {
        if let Some(programs) = &self.options.programs {
            let options = node::Options::new(self.name(), programs, &self.dir.join("node"), self.admin.clone());
            let node = Node::start(options)?;
            *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
        }
        wait::simulated(self).await
    }

    /// Waits until controllers and nodes work, not only the API server.
    async fn ready(&self) -> Result<()> {
        if self.options.api_server_only {
            return Ok(());
        }
        let client = self.client().await?;
        wait::controllers(self, &client).await?;
        wait::nodes(self, &client).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.node.lock().unwrap_or_else(PoisonError::into_inner).take());
        let processes = std::mem::take(&mut *self.parts());
        for process in processes.values() {
            process.signal(Signal::SIGKILL);
        }
        for process in processes.values() {
            process.stop_blocking(Signal::SIGKILL, Duration::from_secs(5));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        janitor::forget(&self.dir);
    }
}
