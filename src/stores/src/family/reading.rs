//! What the events of a log say of rows, one after the other: the keys of those that were changed. Pure.
//!
//! What the server wrote itself is read to find those rows again, and what cannot be read is told. What anybody wrote is read to know
//! which rows are as they were: so that counts only from the transaction at which the log stood, and only where nothing else can have
//! changed one.

use super::dialect::Kind;
use super::gtid::{Gtid, Log};
use super::names::fnv;
use super::rows::{Damaged, Does, Part, Shape, keys, table_of};
use super::stand::Stand;
use super::statements::changes_nothing;
use crate::{mariadb, mysql};
use mysql_async::binlog::events::{Event, TableMapEvent};
use std::collections::{BTreeMap, HashMap};

/// Which part of a log is read.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    /// What the server wrote itself behind a place, or all of that.
    Own(Option<Gtid>),
    /// What anybody wrote behind where the log stood.
    All(&'a Stand),
}

/// How much is read at most.
#[derive(Clone, Copy)]
pub(crate) struct Most {
    pub(crate) keys: usize,
    pub(crate) bytes: u64,
}

impl Most {
    /// More keys do not fit into memory, and no person reads them.
    pub(crate) const TOLD: Self = Self {
        keys: 1_000_000,
        bytes: u64::MAX,
    };
}

/// Whose transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// One that this server wrote, with its number.
    Own(u64),
    /// One of another member's, which a link has brought.
    Other,
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    /// It describes a table.
    Table,
    /// It changes rows; those that are compressed are not read.
    Rows(Result<Does, Damaged>),
    Statement,
    /// It holds others, which are not read.
    Packed,
    /// Nothing about rows.
    Nothing,
    /// What is not known here.
    Unknown,
}

impl Says {
    fn of(event: u8) -> Self {
        match event {
            2 => Self::Statement,
            19 => Self::Table,
            23 | 30 => Self::Rows(Ok(Does::Insert)),
            24 | 31 => Self::Rows(Ok(Does::Update)),
            25 | 32 => Self::Rows(Ok(Does::Delete)),
            20..=22 | 39 | 166..=171 => Self::Rows(Err(Damaged)),
            40 => Self::Packed,
            // How logs and files begin and end, a commit, a beat, a statement's text beside its rows.
            3 | 4 | 15 | 16 | 27 | 29 | 35 | 41 | 160 | 161 | 163 | 164 => Self::Nothing,
            _ => Self::Unknown,
        }
    }
}

/// The tables that are asked for, by database and name: as declared, and the places of the key's columns.
pub(crate) type Tables = HashMap<(String, String), (String, Vec<usize>)>;

/// The keys that the log changed, by table as declared, and when each was changed last, in seconds since 1970.
pub(crate) type Changed = BTreeMap<String, BTreeMap<Vec<Part>, u32>>;

/// Whose transaction begins with an event, if one does; `own`: the name of the server's own log.
pub(crate) fn begins(kind: Kind, event: &Event, own: Log) -> Option<Begins> {
    let (number, data) = (event.header().event_type_raw(), event.data());
    match kind {
        Kind::MariaDb => mariadb::log::begins(number, data, own),
        Kind::MySql => mysql::log::begins(number, data, own),
    }
}

/// When and where in its file a transaction was written, and all that its first event says.
pub(crate) fn mark_of(event: &Event) -> String {
    let header = event.header();
    let words = (header.timestamp(), header.server_id(), header.log_pos(), event.data());
    format!("{:016x}", fnv(&format!("{words:?}")))
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

/// Whether there is more to read.
pub(crate) enum Goes {
    On,
    /// What follows was written since the reading began.
    Behind,
}

pub(crate) struct Reading<'a> {
    tables: &'a Tables,
    what: What<'a>,
    most: Most,
    /// How far the server's own log had come.
    end: Gtid,
    maps: HashMap<u64, Known>,
    pub(crate) changed: Changed,
    count: usize,
    bytes: u64,
    /// Whether the transaction that is read counts.
    counts: bool,
    /// Whether the one was met at which the log stood.
    begun: bool,
    /// The last one of the server's own that was met.
    seen: u64,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(tables: &'a Tables, (what, most): (What<'a>, Most), end: Gtid) -> Self {
        Self {
            tables,
            what,
            most,
            end,
            maps: HashMap::new(),
            changed: Changed::new(),
            count: 0,
            bytes: 0,
            counts: true,
            begun: false,
            seen: 0,
        }
    }

    pub(crate) fn take(&mut self, kind: Kind, event: &Event) -> Result<Goes, String> {
        const SENSELESS: &str =
            "a message of the log makes no sense, or the key of a table is of a type that is not read";
        if let Some(begins) = begins(kind, event, self.end.log) {
            return self.begin(begins, || mark_of(event));
        }
        let (number, data) = (event.header().event_type_raw(), event.data());
        self.bytes += u64::from(event.header().event_size());
        match (Says::of(number), &self.what) {
            (Says::Table, _) => {
                let map = event.read_event::<TableMapEvent<'_>>();
                let map = map.map_err(|_| "a message of the log makes no sense".to_owned())?;
                self.maps.insert(map.table_id(), known(&map));
            }
            (Says::Rows(does), _) => {
                let added = self.add(number, does, data, event.header().timestamp());
                added.map_err(|Damaged| SENSELESS.to_owned())?;
            }
            (Says::Statement, What::All(_)) if self.counts && !changes_nothing(data) => {
                return Err("a statement in the log may have changed tables, or rows by itself".to_owned());
            }
            (Says::Packed, _) if self.counts => return Err(SENSELESS.to_owned()),
            (Says::Unknown, What::All(_)) => {
                return Err(format!("the log has a message of a kind that is not read: {number}"));
            }
            (Says::Statement | Says::Unknown, What::Own(_) | What::All(_)) | (Says::Nothing | Says::Packed, _) => {}
        }
        if self.count > self.most.keys || self.bytes > self.most.bytes {
            let Most { keys, bytes } = self.most;
            return Err(format!("there are more than {keys} changes, or {bytes} bytes of them"));
        }
        Ok(Goes::On)
    }

    fn begin(&mut self, begins: Begins, mark: impl Fn() -> String) -> Result<Goes, String> {
        match (&self.what, begins) {
            // What stood there comes once more, and tells that it is the same log.
            (What::All(stand), Begins::Own(seq)) if !self.begun => {
                if seq != stand.last || mark() != stand.mark {
                    return Err("it is not the log any more that it was".to_owned());
                }
                (self.begun, self.counts, self.seen) = (true, false, seq);
            }
            (_, Begins::Own(seq)) if seq > self.end.seq => return Ok(Goes::Behind),
            (_, Begins::Own(seq)) => (self.counts, self.seen) = (true, seq),
            (What::Own(_), Begins::Other) => self.counts = false,
            (What::All(_), Begins::Other) => self.counts = true,
        }
        Ok(Goes::On)
    }

    /// Whether all was read that was there.
    pub(crate) fn is_whole(&self) -> bool {
        match &self.what {
            What::Own(_) => true,
            What::All(_) => self.begun && self.seen >= self.end.seq,
        }
    }

    fn add(&mut self, kind: u8, does: Result<Does, Damaged>, data: &[u8], committed: u32) -> Result<(), Damaged> {
        if !self.counts {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Gtid = Gtid {
        log: Log::Domain(1),
        server: 1,
        seq: 9,
    };

    fn reading<'a>(tables: &'a Tables, what: What<'a>) -> Reading<'a> {
        Reading::new(tables, (what, Most::TOLD), OWN)
    }

    #[test]
    fn a_log_counts_from_the_transaction_at_which_it_stood_to_the_last_that_was_there() {
        let stand = Stand {
            last: 5,
            mark: "mark".to_owned(),
            logs: String::new(),
        };
        let tables = Tables::new();
        let mut read = reading(&tables, What::All(&stand));
        let mark = || "mark".to_owned();
        let begin = |read: &mut Reading<'_>, begins| match read.begin(begins, mark) {
            Ok(Goes::On) => Some(read.counts),
            Ok(Goes::Behind) => None,
            Err(why) => panic!("{why}"),
        };
        assert_eq!(begin(&mut read, Begins::Other), Some(true));
        assert!(!read.is_whole(), "it was not met");
        assert_eq!(begin(&mut read, Begins::Own(5)), Some(false), "that was there already");
        assert_eq!(begin(&mut read, Begins::Other), Some(true));
        assert_eq!(begin(&mut read, Begins::Own(8)), Some(true));
        assert!(!read.is_whole(), "the last one is missing");
        assert_eq!(begin(&mut read, Begins::Own(9)), Some(true));
        assert!(read.is_whole());
        assert_eq!(begin(&mut read, Begins::Own(10)), None);
        for (seq, of) in [(6, "mark"), (5, "another")] {
            let mut read = reading(&tables, What::All(&stand));
            assert!(read.begin(Begins::Own(seq), || of.to_owned()).is_err(), "{seq} {of}");
        }
        let mut own = reading(&tables, What::Own(None));
        assert_eq!(begin(&mut own, Begins::Own(3)), Some(true));
        assert_eq!(begin(&mut own, Begins::Other), Some(false));
    }

    #[test]
    fn what_is_not_known_is_never_taken_for_nothing() {
        for (event, want) in [
            (2, Says::Statement),
            (16, Says::Nothing),
            (163, Says::Nothing),
            // How a transaction begins, where it makes no sense.
            (33, Says::Unknown),
            (162, Says::Unknown),
            (31, Says::Rows(Ok(Does::Update))),
            (40, Says::Packed),
            (39, Says::Rows(Err(Damaged))),
            (166, Says::Rows(Err(Damaged))),
            (26, Says::Unknown),
            (34, Says::Unknown),
            (38, Says::Unknown),
            (255, Says::Unknown),
        ] {
            assert_eq!(Says::of(event), want, "{event}");
        }
    }
}
