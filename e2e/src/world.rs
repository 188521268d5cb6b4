//! Three clusters and three databases, started by this process and ended with it.

use crate::database_wire::DatabaseWire;
use crate::databases::password;
use crate::processes::Frozen;
use crate::region::{Engine, Region};
use crate::server::{self, Server};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use multiactive_fleet::certs::Authority;
use multiactive_fleet::{Cluster, cluster};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// What runs a fleet: its clusters and its databases, in the order of the regions.
#[derive(Debug)]
pub struct World {
    /// The regions; the first is the hub.
    pub regions: Vec<Region>,
    /// Their clusters.
    pub clusters: Vec<Cluster>,
    /// Their databases.
    pub databases: Vec<Server>,
    /// The wires to its databases, where they can be lost.
    pub wires: Vec<DatabaseWire>,
    /// Who signed the certificates of the databases, where they have some.
    trust: Option<Trust>,
}

/// Who signs for databases, and the folder in which its certificate lies.
struct Trust {
    authority: Authority,
    dir: TempDir,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What may differ from world to world.
#[derive(Clone, Copy, Debug)]
pub struct Databases {
    /// Their engine.
    pub engine: Engine,
    /// Whether they flush to the disk, which the death of a process does not need.
    pub fsync: bool,
    /// Whether the way to each can be lost; nothing is secret then, since what is cannot be told apart.
    pub wired: bool,
    /// Whether the clock of each can be set.
    pub clocks: bool,
}

/// The loopback network of a world: worlds side by side take different ones.
#[derive(Clone, Copy, Debug)]
pub struct Network(pub u8, pub u8);

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "127.{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for Network {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.strip_prefix("127.").and_then(|rest| rest.split_once('.'));
        let (second, third) = parts.context("expected 127.A.B")?;
        Ok(Self(second.parse()?, third.parse()?))
    }
}

impl Network {
    /// That of the examples' manifests.
    pub const EXAMPLES: Self = Self(0, 0);

    /// One that is likely to be this process' own.
    pub fn of_this_process() -> Self {
        let id = std::process::id();
        Self((id / 250 % 250) as u8 + 1, (id % 250) as u8 + 1)
    }

    /// The address of the region at `index`.
    pub fn address(self, index: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, self.1, 11 + index as u8)
    }

    /// The port of the database of the region at `index`, where it is fixed: the examples' manifests name it.
    pub fn database_port(self, index: usize) -> Option<u16> {
        (self.0 == 0).then_some(15_411 + index as u16)
    }

    /// The examples' manifests, moved to this network.
    pub fn rewrite(self, manifests: &str) -> String {
        manifests.replace("127.0.0.1", &format!("127.{}.{}.1", self.0, self.1))
    }
}

/// The folder of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of the programs that pods run: that of the running program, or of the tests' parent.
///
/// # Errors
///
/// Where a program is missing; the text says how to build it.
pub fn programs() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("the running program has no folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().context("no folder above deps")?
    } else {
        folder
    };
    for program in [
        "multiactive-operator",
        "multiactive-agent",
        "multiactive-router",
        "shop",
    ] {
        let path = folder.join(program);
        ensure!(
            path.exists(),
            "{} is missing: run `cargo build{} --workspace --bins` first",
            path.display(),
            if cfg!(debug_assertions) { "" } else { " --release" },
        );
    }
    Ok(folder.to_owned())
}

/// The file with the certificate of who signed those of the databases.
const CA_FILE: &str = "ca.crt";

/// An authority for the databases of a world, and the folder of its certificate.
fn trusted() -> Result<Trust> {
    let (authority, dir) = (Authority::new("databases")?, tempfile::tempdir()?);
    std::fs::write(dir.path().join(CA_FILE), authority.cert())?;
    Ok(Trust { authority, dir })
}

impl World {
    /// Starts a cluster and a database for each name, all at once. With `dir`, everything is kept below it.
    ///
    /// # Errors
    ///
    /// Where one of them does not start; the others are ended.
    pub async fn start(names: &[&str], network: Network, dir: Option<&Path>) -> Result<Self> {
        let databases = Databases {
            engine: Engine::PostgreSql,
            fsync: true,
            wired: false,
            clocks: false,
        };
        Self::start_with(names, network, dir, databases, |_| Vec::new()).await
    }

    /// As [`World::start`], with such databases; `api_server_args` gives more flags for the API server of a region.
    ///
    /// # Errors
    ///
    /// As [`World::start`].
    pub async fn start_with(
        names: &[&str],
        network: Network,
        dir: Option<&Path>,
        Databases {
            engine,
            fsync,
            wired,
            clocks,
        }: Databases,
        api_server_args: impl Fn(&str) -> Vec<String>,
    ) -> Result<Self> {
        let programs = programs()?;
        // The superuser may run programs: other users of this machine reach the port, too.
        let password = password()?;
        let clusters = names.iter().map(|name| {
            let mut options = cluster::Options::new(name).programs(&programs);
            options.dir = dir.map(|dir| dir.join(name));
            options.api_server_args = api_server_args(name);
            Cluster::start(options)
        });
        let listens = |index: usize| match wired {
            true => "127.0.0.1".to_owned(),
            false => format!("127.0.0.1,{}", network.address(index)),
        };
        // Those of MariaDB and MySQL speak in secret. The wheel's PostgreSQL was built without TLS.
        let secret = engine.is_of_mysql_family() && !wired;
        let trust = secret.then(trusted).transpose()?;
        let databases = names.iter().enumerate().map(|(index, name)| {
            let address = network.address(index).to_string();
            let proof = trust
                .as_ref()
                .map(|trust| trust.authority.server(name, &[&address]))
                .transpose();
            let kind = engine.name().to_lowercase();
            let options = proof.map(|proof| server::Options {
                engine,
                dir: dir.map(|dir| dir.join(format!("{name}-{kind}"))),
                password: password.clone(),
                listens: listens(index),
                port: network.database_port(index),
                number: index as u32 + 1,
                fsync,
                patient: wired,
                clock: clocks,
                proof,
            });
            async move { Server::start(options?).await }
        });
        let clusters = async { try_join_all(clusters).await.context("starting the clusters") };
        let (clusters, databases) = tokio::try_join!(clusters, try_join_all(databases))?;
        let region = |(index, name): (usize, &&str)| Region {
            name: (*name).to_owned(),
            address: network.address(index),
            kubeconfig: clusters[index].kubeconfig_path(),
            database_port: databases[index].port(),
            database_password: databases[index].password().to_owned(),
            engine,
            ca_file: trust.as_ref().map(|trust| trust.dir.path().join(CA_FILE)),
        };
        let regions: Vec<_> = names.iter().enumerate().map(region).collect();
        let wires = regions.iter().filter(|_| wired).map(|region| {
            let at = |address: Ipv4Addr| SocketAddr::from((address, region.database_port));
            DatabaseWire::to(at(region.address), at(Ipv4Addr::LOCALHOST), engine)
        });
        Ok(Self {
            wires: try_join_all(wires).await?,
            regions,
            clusters,
            databases,
            trust,
        })
    }

    /// From now on a region's database proves who it is by a new certificate, which is good `until` then, and the sessions of its
    /// agent have ended.
    ///
    /// # Errors
    ///
    /// Where there is no such region, nothing is secret there, or the server refuses.
    pub async fn proves(&self, region: &str, until: Option<SystemTime>) -> Result<()> {
        let index = self.index(region)?;
        let (trust, at) = (self.trust.as_ref(), &self.regions[index]);
        let trust = trust.context("what these databases say is not secret")?;
        let pair = trust
            .authority
            .server_until(region, &[&at.address.to_string()], until)?;
        self.databases[index].proves(&pair)?;
        let mut admin = Conn::new(at.mysql_family()).await?;
        for sql in ["FLUSH SSL", "KILL USER multiactive_agent"] {
            admin.query_drop(sql).await.context(sql)?;
        }
        Ok(admin.disconnect().await?)
    }

    /// Kills all of a region, its database as by a power failure.
    ///
    /// # Errors
    ///
    /// Where there is no such region.
    pub async fn kill(&self, region: &str) -> Result<()> {
        let index = self.index(region)?;
        let (database, ()) = tokio::join!(self.kill_database(region), self.clusters[index].stop());
        database
    }

    /// As [`World::kill`], the database alone.
    ///
    /// # Errors
    ///
    /// As [`World::kill`].
    pub async fn kill_database(&self, region: &str) -> Result<()> {
        self.databases[self.index(region)?].kill_9().await;
        Ok(())
    }

    /// Starts a region again, with what was on its disks.
    ///
    /// # Errors
    ///
    /// Where there is no such region, or a part of it does not start.
    pub async fn revive(&self, region: &str) -> Result<()> {
        self.revive_database(region).await?;
        Ok(self.clusters[self.index(region)?].restart().await?)
    }

    /// As [`World::revive`], the database alone.
    ///
    /// # Errors
    ///
    /// As [`World::revive`].
    pub async fn revive_database(&self, region: &str) -> Result<()> {
        self.databases[self.index(region)?].restart().await
    }

    /// Stops all of a region in the midst of what it does, its database too, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// Where there is no such region, or it does not stand still.
    pub async fn freeze(&self, region: &str) -> Result<Frozen> {
        let index = self.index(region)?;
        let parts = self.clusters[index].running().into_iter().map(|(_, pid)| pid);
        Frozen::all_below(parts.chain(self.database_pid(index)?)).await
    }

    /// As [`World::freeze`], the database alone.
    ///
    /// # Errors
    ///
    /// As [`World::freeze`].
    pub async fn freeze_database(&self, region: &str) -> Result<Frozen> {
        Frozen::all_below(self.database_pid(self.index(region)?)?).await
    }

    fn database_pid(&self, index: usize) -> Result<[i32; 1]> {
        Ok([self.databases[index].pid().context("the database does not run")?])
    }

    /// What only a unit holds that was lost, as the documented command exports it from its database.
    ///
    /// # Errors
    ///
    /// Where the client fails; the text is what it said.
    pub async fn exported(&self, region: &str, dir: &Path) -> Result<String> {
        let (mut client, file) = self.databases[self.index(region)?].exports(region, dir)?;
        let ended = client.spawn().context("running the client")?.wait_with_output().await?;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        Ok(std::fs::read_to_string(file)?)
    }

    /// What the databases' logs say of processes of theirs that crashed: nothing of that is part of any test.
    pub fn crashes(&self) -> Vec<String> {
        let read = self
            .databases
            .iter()
            .filter_map(|server| std::fs::read(server.log()).ok());
        let texts: Vec<_> = read.map(|log| String::from_utf8_lossy(&log).into_owned()).collect();
        let crashed = |line: &&str| {
            [" was terminated by signal", "PANIC", "got signal"]
                .iter()
                .any(|sign| line.contains(sign))
        };
        let lines = texts.iter().flat_map(|text| text.lines().filter(crashed));
        lines.map(str::to_owned).collect()
    }

    /// Sets the clock of a region's database, in seconds before or behind the machine's, from the next full second on.
    ///
    /// # Errors
    ///
    /// Where there is no such region, or the clock cannot be set.
    pub fn set_clock(&self, region: &str, seconds: i64) -> Result<()> {
        self.databases[self.index(region)?].set_clock(seconds)
    }

    /// The wire to a region's database.
    ///
    /// # Errors
    ///
    /// Where there is no such region, or its world has no wires.
    pub fn wire(&self, region: &str) -> Result<&DatabaseWire> {
        self.wires.get(self.index(region)?).context("a world without wires")
    }

    fn index(&self, region: &str) -> Result<usize> {
        let names: Vec<_> = self.regions.iter().map(|region| region.name.as_str()).collect();
        let index = names.iter().position(|known| *known == region);
        index.with_context(|| format!("there is no region {region}: they are {}", names.join(", ")))
    }
}
