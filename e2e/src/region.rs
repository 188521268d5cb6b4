//! One region of the shop: a cluster, a unit, a database, and the loopback address that all of it listens on.

use anyhow::{Context, Result};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use mysql_async::OptsBuilder;
use serde::{Deserialize, Serialize};
use shop::database::Place;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The namespace of the shop, in every cluster.
pub const NAMESPACE: &str = "shop";
/// The namespace of operator and agents, in every cluster.
pub const SYSTEM: &str = "multiactive-system";
/// The name of the shop's database.
pub const DATABASE: &str = "shop";

/// A region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Region {
    /// Its name, its cluster's too.
    pub name: String,
    /// The loopback address of its parts.
    pub address: Ipv4Addr,
    /// An administrator's kubeconfig of its cluster.
    pub kubeconfig: PathBuf,
    /// The port of its database, on `address`.
    pub database_port: u16,
    /// The password of the database's superuser, `postgres` or `root`.
    pub database_password: String,
    /// The engine of its database.
    #[serde(default)]
    pub engine: Engine,
    /// Where sessions of the agents and links are encrypted: the file with the authority of the databases' certificates.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// The engine of every database of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// PostgreSQL.
    #[default]
    PostgreSql,
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PostgreSql, Self::MariaDb, Self::MySql];

    /// Its name, as a DataStore has it in `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }

    /// The field of a DataStore with what it has of its own.
    pub fn field(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgreSQL",
            Self::MariaDb => "mariaDB",
            Self::MySql => "mySQL",
        }
    }

    /// The documented script with the rights of the agent's user and the replication user.
    pub fn roles(self) -> &'static str {
        match self {
            Self::PostgreSql => "src/stores/src/postgres/roles.sql",
            Self::MariaDb => "src/stores/src/mariadb/roles.sql",
            Self::MySql => "src/stores/src/mysql/roles.sql",
        }
    }

    /// How many times as long as with the others its customers wait after each order. A link of MySQL hands one transaction after
    /// the other from thread to thread, and each comes by two links: where customers have all of a small machine at work, links fall
    /// behind without end, and no promotion that compares rows goes on.
    pub fn pace(self) -> u32 {
        match self {
            Self::PostgreSql | Self::MariaDb => 1,
            Self::MySql => 2,
        }
    }

    /// Whether it speaks as MySQL does.
    pub fn is_of_mysql_family(self) -> bool {
        match self {
            Self::PostgreSql => false,
            Self::MariaDb | Self::MySql => true,
        }
    }
}

impl Region {
    /// The unit that lives here.
    pub fn unit(&self) -> String {
        format!("{}-1", self.name)
    }

    /// Where clients reach the unit's router.
    pub fn router(&self) -> String {
        format!("http://{}:18000", self.address)
    }

    /// Where the router answers probes and `/route`.
    pub fn router_admin(&self) -> String {
        format!("http://{}:18080", self.address)
    }

    /// A client of its cluster, as administrator.
    ///
    /// # Errors
    ///
    /// Where the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let path = &self.kubeconfig;
        let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// How its database is read, whatever its engine.
    pub fn place(&self) -> Place {
        match self.engine {
            Engine::PostgreSql => Place::PostgreSql(Box::new(self.database())),
            Engine::MariaDb | Engine::MySql => Place::MySqlFamily(self.mysql_family().db_name(Some(DATABASE)).into()),
        }
    }

    /// How its server is reached as `root`, where it is one of MariaDB or MySQL.
    pub fn mysql_family(&self) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname(self.address.to_string())
            .tcp_port(self.database_port)
            .prefer_socket(false)
            .user(Some("root"))
            .pass(Some(&self.database_password))
    }

    /// How its database is reached as `postgres`, where it is one of PostgreSQL.
    pub fn database(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.address.to_string())
            .port(self.database_port)
            .dbname(DATABASE);
        config.user("postgres").password(&self.database_password);
        config
    }
}
