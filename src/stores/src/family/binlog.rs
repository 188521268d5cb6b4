//! What the server's own log says of the rows that it changed: their keys, in the order of the log.
//!
//! It is read as a link would, which the server ends where the log does. Nothing of it is used up.

use super::MySqlFamily;
use super::connect::Session;
use super::dialect::Kind;
use super::gtid::Gtid;
use super::logs::Logs;
use super::names::table;
use super::rows::{Damaged, Does, Part, Shape, keys, table_of};
use super::snapshot;
use crate::error::Error;
use crate::until::Until;
use crate::{mariadb, mysql};
use futures::StreamExt;
use mysql_async::binlog::events::TableMapEvent;
use std::collections::{BTreeMap, HashMap};
use tokio::time::timeout;

/// How many keys are kept at most: more do not fit into memory, and no person reads them.
const KEYS: usize = 1_000_000;

/// The number of the event that describes a table.
const TABLE_MAP: u8 = 19;

/// Whose transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// One that this server wrote, with its number.
    Own(u64),
    /// One of another member's, which a link has brought.
    Other,
}

/// Events that change rows; those that are compressed are not read.
fn does(event: u8) -> Option<Result<Does, Damaged>> {
    match event {
        23 | 30 => Some(Ok(Does::Insert)),
        24 | 31 => Some(Ok(Does::Update)),
        25 | 32 => Some(Ok(Does::Delete)),
        20..=22 | 39 | 40 | 165..=171 => Some(Err(Damaged)),
        _ => None,
    }
}

/// The keys that the log changed, by table as declared, and when each was changed last, in seconds since 1970.
pub(crate) type Changed = BTreeMap<String, BTreeMap<Vec<Part>, u32>>;

/// What the log says.
pub(crate) enum Log {
    Has(Changed),
    /// It does not say all of it any more; why.
    Gone(String),
}

/// What stands in this server's own part of its log behind `after`, as far as the log goes now.
pub(crate) async fn behind(
    db: &MySqlFamily,
    session: &mut Session<'_>,
    after: Option<Gtid>,
    until: &Until,
) -> Result<Log, Error> {
    let end = super::position::written(session).await?;
    if after.map_or(0, |at| at.seq) >= end.seq {
        return Ok(Log::Has(Changed::new()));
    }
    let mut tables = HashMap::new();
    for sharded in &db.spec.tables {
        let (database, name) = table(&sharded.name, &db.access.database);
        let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?
                   AND EXTRA NOT LIKE '%VIRTUAL%' ORDER BY ORDINAL_POSITION";
        let columns: Vec<String> = session.rows("reading the columns", sql, (database, name)).await?;
        let key = snapshot::key(db, session, sharded).await?;
        let place = |column: &String| columns.iter().position(|known| known == column);
        let key: Vec<usize> = key.iter().filter_map(place).collect();
        tables.insert((database.to_owned(), name.to_owned()), (sharded.name.clone(), key));
    }
    let all = Logs::read(session).await?.all;
    let open = async {
        match session.kind() {
            Kind::MariaDb => mariadb::log::open(db, end.log, &all, after).await,
            Kind::MySql => mysql::log::open(db, end.log, &all, after).await,
        }
    };
    let mut stream = match timeout(until.left()?, open).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Ok(Log::Gone(error.to_string())),
        Err(_) => return until.left().map(|_| Log::Gone("it does not answer".to_owned())),
    };
    let mut reading = Reading {
        tables: &tables,
        maps: HashMap::new(),
        changed: Changed::new(),
        count: 0,
        is_own: true,
    };
    loop {
        let event = match timeout(until.left()?, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Ok(Log::Gone(error.to_string())),
            Err(_) => continue,
        };
        let (kind, data) = (event.header().event_type_raw(), event.data());
        let begins = match session.kind() {
            Kind::MariaDb => mariadb::log::begins(kind, data),
            Kind::MySql => mysql::log::begins(kind, data, end.log),
        };
        match begins {
            Some(Begins::Own(seq)) if seq > end.seq => break,
            Some(begins) => reading.is_own = begins != Begins::Other,
            None => {}
        }
        if kind == TABLE_MAP {
            let Ok(map) = event.read_event::<TableMapEvent<'_>>() else {
                return Ok(Log::Gone("a message of the log makes no sense".to_owned()));
            };
            reading.maps.insert(map.table_id(), known(&map));
        } else if reading.add(kind, data, event.header().timestamp()).is_err() {
            return Ok(Log::Gone(
                "a message of the log makes no sense, or the key of a table is of a type that is not read".to_owned(),
            ));
        }
        if reading.count > KEYS {
            return Ok(Log::Gone(format!("there are more than {KEYS} changes")));
        }
    }
    let _ = stream.close().await;
    Ok(Log::Has(reading.changed))
}

/// The database and table of a table map, and its columns.
type Known = ((String, String), Vec<Shape>);

fn known(map: &TableMapEvent<'_>) -> Known {
    let columns = usize::try_from(map.columns_count()).unwrap_or_default();
    let shape = |column| {
        let meta = map.get_column_metadata(column).unwrap_or_default();
        let at = |place| meta.get(place).copied().unwrap_or_default();
        Shape {
            kind: map
                .get_raw_column_type(column)
                .ok()
                .flatten()
                .map_or(0, |kind| kind as u8),
            meta: [at(0), at(1)],
        }
    };
    let name = (map.database_name().into_owned(), map.table_name().into_owned());
    (name, (0..columns).map(shape).collect())
}

struct Reading<'a> {
    tables: &'a HashMap<(String, String), (String, Vec<usize>)>,
    maps: HashMap<u64, Known>,
    changed: Changed,
    count: usize,
    /// Whether the transaction that is read is this server's own.
    is_own: bool,
}

impl Reading<'_> {
    fn add(&mut self, kind: u8, data: &[u8], committed: u32) -> Result<(), Damaged> {
        let Some(does) = does(kind).filter(|_| self.is_own) else {
            return Ok(());
        };
        let (table, rest) = table_of(kind, data)?;
        let (name, shapes) = self.maps.get(&table).ok_or(Damaged)?;
        let Some((declared, key)) = self.tables.get(name) else {
            return Ok(());
        };
        let found = keys(rest, does?, shapes, key)?;
        let of = self.changed.entry(declared.clone()).or_default();
        for key in found {
            if of.insert(key, committed).is_none() {
                self.count += 1;
            }
        }
        Ok(())
    }
}
