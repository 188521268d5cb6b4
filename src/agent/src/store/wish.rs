//! What a unit asks of one of its stores, worked out from the assignment, the Secret and the table. Pure.

use super::verify::Question;
use crate::credentials::{CA, Credentials, Login};
use crate::facts::Problem;
use crate::plan::{Ask, Duty};
use multiactive_api::{AssignedStore, EngineType, KeyOverride, UnitAssignmentSpec};
use multiactive_core::epoch::Epoch;
use multiactive_core::ids::{KeyspaceName, OperationUid, StoreName};
use multiactive_core::keyspace::Keyspace;
use multiactive_core::table::RoutingTable;
use multiactive_stores::access::{Access, Tls};
use multiactive_stores::driver::{KeyspaceSpec, Peer, StoreSpec, TableSpec};
use multiactive_stores::{AnyStore, EngineKind};
use std::sync::Arc;

/// Which database a store is, and all that its driver must know. Another one is another driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its engine.
    pub engine: EngineKind,
    /// The store.
    pub spec: StoreSpec,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its database.
    pub database: String,
    /// The agent's login.
    pub login: Login,
    /// How the servers prove who they are.
    pub tls: Option<Tls>,
    /// The Secret that it is from.
    pub secret: String,
    /// From where it receives.
    pub peers: Vec<Peer>,
}

impl Target {
    /// A driver of it.
    pub fn driver(&self) -> AnyStore {
        AnyStore::new(self.engine, self.spec.clone(), self.access())
    }

    /// Whether it is the same database, maybe with another login, other certificates or other peers.
    pub fn is_same_database(&self, other: &Self) -> bool {
        let place = |target: &Self| (target.engine, target.host.clone(), target.port, target.database.clone());
        place(self) == place(other) && self.spec.unit == other.spec.unit
    }

    /// How the driver reaches it.
    pub fn access(&self) -> Access {
        Access {
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            user: self.login.username.clone(),
            password: self.login.password.clone(),
            tls: self.tls.clone(),
        }
    }
}

/// What an operation asks of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The operation.
    pub operation: OperationUid,
    /// The last change of its spans.
    pub epoch: Epoch,
    /// What.
    pub ask: Ask,
}

/// What a unit asks of a store now.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which database it is, or why that cannot be said.
    pub target: Result<Arc<Target>, Problem>,
    /// The table that it shall stand at; `None` before the first.
    pub table: Option<Arc<RoutingTable>>,
    /// What the running operations ask.
    pub asked: Vec<Asked>,
    /// The table at which the unit's write lease was granted: the store takes no lease before it was brought there.
    pub granted: Epoch,
    /// What a Verification asks.
    pub verification: Option<Question>,
}

/// A table is known by its epoch: it is compared on every change.
impl PartialEq for Wish {
    fn eq(&self, other: &Self) -> bool {
        let epoch = |wish: &Self| wish.table.as_ref().map(|table| table.epoch);
        self.target == other.target
            && epoch(self) == epoch(other)
            && self.asked == other.asked
            && self.granted == other.granted
            && self.verification == other.verification
    }
}

/// What the duties ask of one store.
pub fn asked(duties: &[Duty], store: &StoreName) -> Vec<Asked> {
    let of = |duty: &Duty| {
        let found = duty.stores.iter().find(|asked| asked.store == *store);
        let asks = found
            .into_iter()
            .flat_map(|found| std::iter::once(&found.ask).chain(&found.besides));
        let asked = asks.map(|ask| Asked {
            operation: duty.operation.clone(),
            epoch: duty.epoch,
            ask: ask.clone(),
        });
        asked.collect::<Vec<_>>()
    };
    duties.iter().flat_map(of).collect()
}

/// Which database a store is.
///
/// # Errors
///
/// [`Problem`] where the assignment does not say what the driver needs.
pub fn target(
    namespace: &str,
    unit: &UnitAssignmentSpec,
    store: &AssignedStore,
    credentials: &Credentials,
) -> Result<Target, Problem> {
    let invalid = |message: String| Problem::new("AssignmentInvalid", message);
    let mut declared = unit.keyspaces.iter();
    let keyspace = match KeyspaceName::from(store.keyspace.as_str()).writer_of() {
        Some(_) => fenced_by(&store.keyspace, &Keyspace::single_writer(), &[]),
        None => {
            let name = store
                .conflict
                .as_ref()
                .map_or(&store.keyspace, |conflict| &conflict.keyspace);
            let declared = declared.find(|keyspace| keyspace.name == *name);
            let missing = || {
                let older = match store.is_shared() && store.conflict.is_none() {
                    true => ": several units write the store, which this cluster's CRDs do not know; update them",
                    false => "",
                };
                invalid(format!("keyspace {name} is not in the assignment{older}"))
            };
            let spec = &declared.ok_or_else(missing)?.spec;
            let checked = Keyspace::try_from(spec).map_err(|error| invalid(error.to_string()))?;
            fenced_by(&store.keyspace, &checked, &spec.overrides)
        }
    };
    let (engine, database) = match store.engine.kind {
        EngineType::PostgreSql => {
            let engine = store.engine.postgre_sql.as_ref();
            let engine = engine.ok_or_else(|| invalid("engine.postgreSQL is missing".to_owned()))?;
            (EngineKind::PostgreSql, engine.database.clone())
        }
        EngineType::MariaDb => {
            let engine = store.engine.maria_db.as_ref();
            let engine = engine.ok_or_else(|| invalid("engine.mariaDB is missing".to_owned()))?;
            (EngineKind::MariaDb, engine.database.clone())
        }
        EngineType::MySql => {
            let engine = store.engine.my_sql.as_ref();
            let engine = engine.ok_or_else(|| invalid("engine.mySQL is missing".to_owned()))?;
            (EngineKind::MySql, engine.database.clone())
        }
    };
    let (host, port) = host_and_port(&store.local.address).map_err(invalid)?;
    let peer = |member: &multiactive_api::StoreMember| {
        let (host, port) = host_and_port(&member.address).map_err(invalid)?;
        let login = credentials.peers.get(&member.unit);
        let login = login.ok_or_else(|| invalid(format!("no login for peer {}", member.unit)))?;
        Ok(Peer {
            unit: member.unit.as_str().into(),
            host,
            port,
            user: login.username.clone(),
            password: login.password.clone(),
        })
    };
    let table = |table: &multiactive_api::Table| TableSpec {
        name: table.name.clone(),
        shard_key: table.shard_key.clone(),
        last_write: table.last_write.clone(),
    };
    Ok(Target {
        engine,
        spec: StoreSpec {
            namespace: namespace.to_owned(),
            store: store.name.as_str().into(),
            unit: unit.unit.as_str().into(),
            keyspace,
            tables: store.tables.iter().map(table).collect(),
            peers: store.peers.iter().map(|peer| peer.unit.as_str().into()).collect(),
        },
        host,
        port,
        database,
        login: credentials.own.clone(),
        tls: tls(store, credentials)?,
        secret: store.local.credentials.clone(),
        peers: store.peers.iter().map(peer).collect::<Result<_, Problem>>()?,
    })
}

/// How the servers prove who they are, where the store wants that.
fn tls(store: &AssignedStore, credentials: &Credentials) -> Result<Option<Tls>, Problem> {
    let (Some(declared), Some(ca)) = (&store.tls, &credentials.ca) else {
        return Ok(None);
    };
    let secret = &store.local.credentials;
    let unfit = |error| {
        Problem::new(
            "CredentialsNoCertificate",
            format!("key {CA} of Secret {secret}: {error}"),
        )
    };
    Tls::new(ca, &declared.ca_file).map(Some).map_err(unfit)
}

fn fenced_by(name: &str, checked: &Keyspace, overrides: &[KeyOverride]) -> KeyspaceSpec {
    let overrides = overrides.iter().flat_map(|entry| &entry.keys);
    KeyspaceSpec {
        name: name.into(),
        slots: checked.slots(),
        function: checked.function(),
        overrides: overrides.map(|key| (key.clone(), checked.slot_of(key))).collect(),
    }
}

/// `db.example:5432`, `[::1]:5432`.
fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let bad = || format!("address `{address}`: expected host and port, such as db.shop.svc:5432");
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        Err(bad())
    } else {
        Ok((host.to_owned(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_wants_encryption_needs_certificates_that_can_be_read() {
        let member = |unit: &str| multiactive_api::StoreMember {
            unit: unit.to_owned(),
            address: "db:5432".to_owned(),
            credentials: "shop-db".to_owned(),
        };
        let mut store = AssignedStore {
            name: "orders".to_owned(),
            keyspace: "users".to_owned(),
            single_writer: None,
            conflict: None,
            engine: multiactive_api::Engine::postgre_sql("shop"),
            tls: None,
            tables: Vec::new(),
            local: member("east-1"),
            peers: Vec::new(),
        };
        let login = || Login {
            username: String::new(),
            password: String::new(),
        };
        let mut found = Credentials {
            own: login(),
            peers: std::collections::BTreeMap::new(),
            ca: None,
        };
        let said = |store: &AssignedStore, found: &Credentials| tls(store, found).map_err(|problem| problem.reason);
        assert_eq!(said(&store, &found), Ok(None), "a store that wants none");
        store.tls = Some(multiactive_api::StoreTls {
            ca_file: "/ca.crt".to_owned(),
        });
        found.ca = Some("no certificate".to_owned());
        assert_eq!(said(&store, &found), Err("CredentialsNoCertificate".to_owned()));
        let ca = multiactive_fleet::certs::Authority::new("databases").unwrap();
        found.ca = Some(ca.cert().to_owned());
        assert_eq!(said(&store, &found), Ok(Tls::new(ca.cert(), "/ca.crt").ok()));
    }

    #[test]
    fn an_address_is_host_and_port() {
        for (address, want) in [
            ("db.shop.svc:5432", Some(("db.shop.svc", 5432))),
            ("[::1]:5432", Some(("::1", 5432))),
            ("db.shop.svc", None),
            ("db.shop.svc:0", None),
            ("db.shop.svc:x", None),
            (":5432", None),
        ] {
            let got = host_and_port(address).ok();
            assert_eq!(
                got.as_ref().map(|(host, port)| (host.as_str(), *port)),
                want,
                "{address}"
            );
        }
    }
}
