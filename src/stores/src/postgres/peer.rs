//! A look at the other end of a link, with the replication user's own eyes: why it does not stream, and whether the
//! slot is still there.

use super::connect::{Access, Server};
use super::incarnation::Introduction;
use super::{Postgres, names, noted};
use crate::driver::Peer;
use crate::error::Error;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The other end.
pub(super) struct PeerSeen {
    /// Whether it publishes the store's tables.
    pub(super) publishes: bool,
    /// Whether it publishes its openings, and what else a link must miss nothing of.
    pub(super) publishes_all: bool,
    /// Which database it says it is.
    pub(super) introduction: Option<Introduction>,
    /// How far its log has come.
    pub(super) position: String,
    /// The slot of our link.
    pub(super) slot: Slot,
}

/// A slot on the publisher. It keeps the log that we have not read.
pub(super) enum Slot {
    Missing,
    /// Its log is gone.
    Lost,
    /// Nobody reads from it; from where on it gives the log.
    Idle(String),
    /// A process reads from it.
    Active,
}

/// The peer's server, as the replication user.
pub(super) fn server(pg: &Postgres, peer: &Peer) -> Server {
    Server::new(&Access {
        host: peer.host.clone(),
        port: peer.port,
        database: pg.access.database.clone(),
        user: peer.user.clone(),
        password: peer.password.clone(),
        tls: pg.access.tls.clone(),
    })
}

/// The connection string of the link from a peer. The options make the peer notice a dead reader within seconds.
pub(super) fn conninfo(pg: &Postgres, peer: &Peer) -> String {
    let value = names::conninfo_value;
    let tls = match &pg.access.tls {
        // GSS would take the place of the certificate.
        Some(tls) => format!(
            " sslmode=verify-full sslrootcert={} gssencmode=disable",
            value(&tls.ca_file)
        ),
        None => String::new(),
    };
    format!(
        "host={} port={} dbname={} user={} password={} connect_timeout=5 keepalives_idle=5 keepalives_interval=2 \
         keepalives_count=3 options='-c wal_sender_timeout=10s'{tls}",
        value(&peer.host),
        peer.port,
        value(&pg.access.database),
        value(&peer.user),
        value(&peer.password),
    )
}

pub(super) async fn look(pg: &Postgres, peer: &Peer, slot: &str) -> Result<PeerSeen, Error> {
    let server = server(pg, peer);
    let session = server.session().await?;
    let sql = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1), s.active, s.wal_status,
                      coalesce(s.confirmed_flush_lsn, '0/0')::text,
                      (SELECT count(*) = cardinality($3::text[]) FROM pg_publication_tables
                       WHERE pubname = $1 AND schemaname = 'multiactive' AND tablename = ANY ($3::text[])),
                      (SELECT obj_description(p.oid, 'pg_publication') FROM pg_publication p WHERE p.pubname = $1),
                      pg_current_wal_insert_lsn()::text
               FROM (SELECT 1) one LEFT JOIN pg_replication_slots s ON s.slot_name = $2";
    let row = session
        .row(
            "looking at the peer",
            sql,
            &[&names::publication(&pg.spec), &slot, &names::IN_ORDER.as_slice()],
        )
        .await?;
    let (active, log): (Option<bool>, Option<String>) = (row.get(1), row.get(2));
    let slot = match (active, log.as_deref()) {
        (None, _) => Slot::Missing,
        (Some(_), Some("lost")) => Slot::Lost,
        (Some(true), _) => Slot::Active,
        (Some(false), _) => Slot::Idle(row.get(3)),
    };
    let comment: Option<String> = row.get(5);
    Ok(PeerSeen {
        introduction: comment.as_deref().and_then(Introduction::parse),
        position: row.get(6),
        publishes: row.get(0),
        publishes_all: row.get(4),
        slot,
    })
}

/// Whether the peer publishes a table, of whose name at least the beginning is given.
pub(super) async fn publishes(pg: &Postgres, peer: &Peer, table: &str) -> Result<bool, Error> {
    let server = server(pg, peer);
    let session = server.session().await?;
    let sql = r#"SELECT EXISTS (
                     SELECT FROM pg_publication_tables
                     WHERE pubname = $1 AND starts_with(format('"%s"."%s"', replace(schemaname::text, '"', '""'),
                                                               replace(tablename::text, '"', '""')), $2))"#;
    let row = session
        .row(
            "looking at the peer's tables",
            sql,
            &[&names::publication(&pg.spec), &table],
        )
        .await?;
    Ok(row.get(0))
}

/// Makes our slot on the peer; from where on it gives the log. It waits for every transaction that writes there, for at most
/// `limit`.
pub(super) async fn create_slot(pg: &Postgres, peer: &Peer, slot: &str, limit: Duration) -> Result<String, Error> {
    let server = server(pg, peer);
    let mut session = server.session().await?;
    session.limit(limit);
    let sql = "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')";
    let row = session.row("making the slot on the peer", sql, &[&slot]).await?;
    Ok(row.get(0))
}

/// Moves our slot on the peer forward to `progress`, a position in its log; never back.
pub(super) async fn advance_slot(
    pg: &Postgres,
    peer: &Peer,
    slot: &str,
    progress: &str,
    limit: Duration,
) -> Result<(), Error> {
    let server = server(pg, peer);
    let mut session = server.session().await?;
    session.limit(limit);
    let sql = "SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots
               WHERE slot_name = $1 AND confirmed_flush_lsn < $2::text::pg_lsn";
    session
        .rows("moving the slot on the peer", sql, &[&slot, &progress])
        .await
        .map(drop)
}

/// Drops our slot on the peer, once nobody reads from it any more; there being none is fine.
pub(super) async fn drop_slot(pg: &Postgres, peer: &Peer, slot: &str) -> Result<(), Error> {
    let started = Instant::now();
    let server = server(pg, peer);
    loop {
        let session = server.session().await?;
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        match session.rows("dropping the slot on the peer", sql, &[&slot]).await {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > Duration::from_secs(3) => return Err(error),
            // 55006: its reader is still there; it goes when it notices that ours has ended.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// How far the peer has applied the link `name` into it; `None` where it has none.
pub(super) async fn progress_of(pg: &Postgres, peer: &Peer, name: &str) -> Result<Option<String>, Error> {
    let server = server(pg, peer);
    let session = server.session().await?;
    noted::applied(&session, name).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Tls;
    use crate::driver::{KeyspaceSpec, StoreSpec};
    use multiactive_core::hash::Function;
    use std::collections::BTreeMap;

    fn at(tls: Option<Tls>) -> Postgres {
        let spec = StoreSpec {
            namespace: "shop".to_owned(),
            store: "orders".into(),
            unit: "east-1".into(),
            keyspace: KeyspaceSpec {
                name: "users".into(),
                slots: 8,
                function: Function::Crc32,
                overrides: BTreeMap::new(),
            },
            tables: Vec::new(),
            peers: vec!["north-1".into()],
        };
        let text = || String::from("x");
        let access = Access {
            host: text(),
            port: 1,
            database: text(),
            user: text(),
            password: text(),
            tls,
        };
        Postgres::new(spec, access)
    }

    #[test]
    fn a_link_demands_a_certificate_for_the_peers_name_where_the_store_is_encrypted() {
        let peer = Peer {
            unit: "north-1".into(),
            host: "north".to_owned(),
            port: 5432,
            user: "r".to_owned(),
            password: "it's".to_owned(),
        };
        let open = conninfo(&at(None), &peer);
        assert!(
            open.starts_with(r"host='north' port=5432 dbname='x' user='r' password='it\'s' "),
            "{open}"
        );
        assert!(!open.contains("ssl"), "{open}");
        let ca = multiactive_fleet::certs::Authority::new("databases").unwrap();
        let tls = Tls::new(ca.cert(), "/etc/it's.crt").unwrap();
        let encrypted = conninfo(&at(Some(tls)), &peer);
        let demands = r" sslmode=verify-full sslrootcert='/etc/it\'s.crt' gssencmode=disable";
        assert_eq!(encrypted.strip_prefix(open.as_str()), Some(demands));
    }
}
