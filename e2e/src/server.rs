//! The server of a region's database, whatever its engine: how it is started, killed and frozen, and what its own client says.

use crate::region::{DATABASE, Engine};
use anyhow::{Context, Result, bail};
use multiactive_fleet::certs::Pair;
use multiactive_fleet::{MariaDb, MySql, Postgres, postgres, server};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// How many sessions it takes at once.
const CONNECTIONS: &str = "200";

/// How a server is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its engine.
    pub engine: Engine,
    /// Where it keeps everything; a temporary folder where it is `None`.
    pub dir: Option<PathBuf>,
    /// The password of its superuser.
    pub password: String,
    /// The addresses that it listens on, with commas between them.
    pub listens: String,
    /// Its port; a free one where it is `None`.
    pub port: Option<u16>,
    /// What no two members of a mesh may share: `server_id` and so on, where its engine has that.
    pub number: u32,
    /// Whether commits are durable.
    pub fsync: bool,
    /// Whether its links may hear nothing for as long as they may where nobody sets it: it is not by this that a silent server is
    /// noticed.
    pub patient: bool,
    /// Whether its clock can be set.
    pub clock: bool,
    /// By what it proves who it is, where it can: PostgreSQL's was built without TLS.
    pub proof: Option<Pair>,
}

/// A server. Dropped, it is ended and removed.
#[derive(Debug)]
pub enum Server {
    /// Of PostgreSQL.
    PostgreSql(Postgres),
    /// Of MariaDB.
    MariaDb(MariaDb),
    /// Of MySQL.
    MySql(MySql),
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub async fn start(options: Options) -> Result<Self> {
        let engine = options.engine;
        let started = match engine {
            Engine::PostgreSql => Postgres::start(options.of_postgres()).await.map(Self::PostgreSql),
            Engine::MariaDb => MariaDb::start(options.of_family("slave_net_timeout"))
                .await
                .map(Self::MariaDb),
            Engine::MySql => MySql::start(options.of_family("replica_net_timeout"))
                .await
                .map(Self::MySql),
        };
        started.with_context(|| format!("starting a server of {}", engine.name()))
    }

    /// Its port on every address that it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        match self {
            Self::PostgreSql(server) => server.port(),
            Self::MariaDb(server) => server.port(),
            Self::MySql(server) => server.port(),
        }
    }

    /// The password of its superuser.
    pub fn password(&self) -> &str {
        match self {
            Self::PostgreSql(server) => server.password(),
            Self::MariaDb(server) => server.password(),
            Self::MySql(server) => server.password(),
        }
    }

    /// Its process; `None` while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::PostgreSql(server) => server.pid(),
            Self::MariaDb(server) => server.pid(),
            Self::MySql(server) => server.pid(),
        }
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        match self {
            Self::PostgreSql(server) => server.log(),
            Self::MariaDb(server) => server.log(),
            Self::MySql(server) => server.log(),
        }
    }

    /// Ends it as a power failure would.
    pub async fn kill_9(&self) {
        match self {
            Self::PostgreSql(server) => server.kill_9().await,
            Self::MariaDb(server) => server.kill_9().await,
            Self::MySql(server) => server.kill_9().await,
        }
    }

    /// Starts it on the same port, with what was on its disk.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub async fn restart(&self) -> Result<()> {
        match self {
            Self::PostgreSql(server) => server.restart().await?,
            Self::MariaDb(server) => server.restart().await?,
            Self::MySql(server) => server.restart().await?,
        }
        Ok(())
    }

    /// Sets its clock, in seconds before or behind the machine's.
    ///
    /// # Errors
    ///
    /// Where it cannot be set.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        match self {
            Self::PostgreSql(server) => server.set_clock(seconds)?,
            Self::MariaDb(server) => server.set_clock(seconds)?,
            Self::MySql(_) => bail!("the clock of a server of MySQL cannot be set"),
        }
        Ok(())
    }

    /// Gives it another certificate, which it takes when it is told to read it again.
    ///
    /// # Errors
    ///
    /// Where it takes none while it runs.
    pub fn proves(&self, proof: &Pair) -> Result<()> {
        match self {
            Self::PostgreSql(_) => bail!("what this server of PostgreSQL says is not secret"),
            Self::MariaDb(server) => Ok(server.proves(proof)?),
            Self::MySql(_) => bail!("a server of MySQL takes a certificate of ours when it starts"),
        }
    }

    /// The documented command that exports what only a lost unit holds, and the file that it writes.
    ///
    /// # Errors
    ///
    /// Where the file cannot be made.
    pub fn exports(&self, region: &str, dir: &Path) -> Result<(Command, PathBuf)> {
        let (mut client, file) = match self {
            Self::PostgreSql(server) => {
                let name = format!("lost-{region}.csv");
                let copy = format!("\\copy ({LISTED}) TO '{name}' CSV HEADER");
                let mut psql = Command::new(server.bin().join("psql"));
                psql.args([&server.url("postgres", DATABASE), "-c", &copy]);
                (psql, dir.join(name))
            }
            Self::MariaDb(server) => listed(server.client(), region, dir)?,
            Self::MySql(server) => listed(server.client(), region, dir)?,
        };
        client.current_dir(dir).stderr(Stdio::piped());
        Ok((client, file))
    }
}

/// What only a unit holds that was lost.
const LISTED: &str = "SELECT * FROM multiactive.divergence";

/// The same with the client of MariaDB or MySQL.
fn listed(mut client: Command, region: &str, dir: &Path) -> Result<(Command, PathBuf)> {
    let file = dir.join(format!("lost-{region}.tsv"));
    client.args(["--batch", "-e", LISTED]);
    client.stdout(std::fs::File::create(&file)?);
    Ok((client, file))
}

impl Options {
    fn of_postgres(self) -> postgres::Options {
        let settings = vec![
            ("listen_addresses".to_owned(), self.listens),
            ("max_connections".to_owned(), CONNECTIONS.to_owned()),
        ];
        postgres::Options {
            dir: self.dir,
            password: self.password,
            fsync: self.fsync,
            port: self.port,
            clock: self.clock,
            settings,
            ..postgres::Options::default()
        }
    }

    /// MariaDB and MySQL call by another name for how long a link may hear nothing.
    fn of_family(self, net_timeout: &str) -> server::Options {
        let mut settings = vec![
            ("bind_address".to_owned(), self.listens),
            ("max_connections".to_owned(), CONNECTIONS.to_owned()),
        ];
        let patient = (net_timeout.to_owned(), "60".to_owned());
        settings.extend(self.patient.then_some(patient));
        server::Options {
            dir: self.dir,
            password: self.password,
            fsync: self.fsync,
            port: self.port,
            number: Some(self.number),
            settings,
            proof: self.proof,
            clock: self.clock,
        }
    }
}
