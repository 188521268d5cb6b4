//! What tests say to a server of MariaDB in its own words.

pub use multiactive_fleet::MariaDb as Server;
pub use multiactive_fleet::mariadb::Options;
use multiactive_stores::MySqlFamily;
use multiactive_stores::access::Access;
use multiactive_stores::driver::StoreSpec;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

pub const ROLES: &str = include_str!("../../src/mariadb/roles.sql");
/// What a server has to be given for some function of a keyspace.
pub const FUNCTIONS: Option<&str> = None;
/// For how long a link may hear nothing before the server itself connects it again.
pub const NET_TIMEOUT: &str = "slave_net_timeout";
/// What links do about rows that do not fit.
pub const EXEC_MODE: &str = "slave_exec_mode";
pub const STOP_LINKS: &str = "STOP ALL SLAVES";
pub const START_LINKS: &str = "START ALL SLAVES";
/// What reads the log, for a link or for us.
pub const READER: &str = "Binlog Dump";
/// Rows 1 to 3, in a column `seq`.
pub const THREE: &str = "seq_1_to_3";
pub const STORED: &str = "PERSISTENT";
/// How a column of a type's key is written, and read as text.
pub const KEYS: [(&str, &str, &str); 1] = [(
    "UUID",
    "'123E4567-E89B-12D3-A456-426614174000'",
    "123e4567-e89b-12d3-a456-426614174000",
)];
/// Types of keys that are read in the log besides, and values.
pub const ALSO: [(&str, &[&str]); 1] = [(
    "UUID",
    &[
        "'123e4567-e89b-12d3-a456-426614174000'",
        "'018f4567-e89b-7123-a456-426614174000'",
        "'11223344-5566-4788-99aa-bbccddee0000'",
        "'00000000-0000-0000-0000-000000000000'",
    ],
)];
/// Inserts a row on a clock that stands still, long ago.
pub const LONG_AGO: [&str; 1] = ["SET STATEMENT timestamp = 1 FOR INSERT INTO orders (id, user_id) VALUES ('t', 'u1')"];
pub const NEW_PASSWORD: &str = "SET PASSWORD FOR multiactive_replication@'%' = PASSWORD('another')";
/// Settings with which a server is refused, and the name of what is wrong.
pub const SETTINGS: [(&str, &str, &str); 12] = [
    ("binlog_do_db", "shop", "binlog_do_db"),
    ("binlog_ignore_db", "other", "binlog_ignore_db"),
    ("read_only", "OFF", "read_only"),
    ("gtid_domain_id", "0", "gtid_domain_id"),
    ("gtid_ignore_duplicates", "OFF", "gtid_ignore_duplicates"),
    ("sysdate_is_now", "", "sysdate_is_now"),
    ("event_scheduler", "OFF", "event_scheduler"),
    ("slave_run_triggers_for_rbr", "YES", "slave_run_triggers_for_rbr"),
    ("slave_parallel_threads", "4", "slave_parallel_threads"),
    ("slave_skip_errors", "1062", "slave_skip_errors"),
    ("replicate_ignore_table", "shop.orders", "replicate_ignore_table"),
    ("innodb_rollback_on_timeout", "ON", "innodb_rollback_on_timeout"),
];
/// Changes of the fence's own parts, besides its triggers.
pub const AMISS: [(&str, &str); 3] = [
    ("an event that is disabled", "ALTER EVENT multiactive.deadline DISABLE"),
    (
        "a routine that is another",
        "CREATE OR REPLACE FUNCTION multiactive.lease_left() RETURNS BIGINT RETURN 1000000",
    ),
    ("a sequence that is gone", "DROP SEQUENCE multiactive.lease"),
];

/// Has each commit that stands in the log wait for an answer, for two seconds.
pub const AWAITS_ANSWERS: [&str; 5] = [
    "rpl_semi_sync_master_wait_point = AFTER_SYNC",
    "rpl_semi_sync_master_wait_no_slave = ON",
    "rpl_semi_sync_master_timeout = 2000",
    "rpl_semi_sync_master_enabled = OFF",
    "rpl_semi_sync_master_enabled = ON",
];
pub const ANSWERS_PLUGIN: Option<&str> = None;

/// Whether a link passes over the tail of a lost unit by itself: else it stops before it until somebody looks.
pub const PASSES_ALONE: bool = true;

/// How long a writer waits after each write: links keep up with it.
pub const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

pub fn new(spec: StoreSpec, access: Access) -> MySqlFamily {
    MySqlFamily::mariadb(spec, access)
}

/// The number in a position.
pub fn seq(position: &str) -> u64 {
    position.rsplit('-').next().unwrap().parse().unwrap()
}

/// The number of the last transaction that the server wrote itself.
pub async fn log_end(admin: &mut Conn) -> u64 {
    let log: Option<String> = admin.query_first("SELECT @@global.gtid_binlog_pos").await.unwrap();
    seq(&log.unwrap())
}

/// The server forgets its log, but not what it has of others.
pub async fn begin_log_anew(admin: &mut Conn) {
    admin.query_drop("RESET MASTER").await.unwrap();
}

/// Whether a log is closed, of which nothing more is taken.
pub async fn closed_log(admin: &mut Conn) -> Result<(), String> {
    let log: Option<String> = admin.query_first("SELECT @@global.gtid_slave_pos").await.unwrap();
    let log = log.unwrap();
    log.contains("-4611686018427387904").then_some(()).ok_or(log)
}

/// A link as the server tells it.
#[derive(Debug)]
pub struct Channel {
    pub name: String,
    pub port: String,
    pub receives: String,
    pub applies: String,
    pub behind: Option<String>,
}

pub async fn channels(admin: &mut Conn) -> Vec<Channel> {
    let rows: Vec<Row> = admin.query("SHOW ALL SLAVES STATUS").await.unwrap();
    let channel = |row: &Row| Channel {
        name: row.get("Connection_name").unwrap(),
        port: row.get("Master_Port").unwrap(),
        receives: row.get("Slave_IO_Running").unwrap(),
        applies: row.get("Slave_SQL_Running").unwrap(),
        behind: row.get("Seconds_Behind_Master").unwrap(),
    };
    rows.iter().map(channel).collect()
}

/// Stops what applies a link's rows.
pub fn stop_applying(name: &str) -> String {
    format!("STOP SLAVE '{name}' SQL_THREAD")
}

/// Puts the lease in place as it is kept.
pub async fn set_lease(admin: &mut Conn, packed: i64) {
    let sql = format!("SELECT SETVAL(multiactive.lease, {packed}, 0, 999)");
    admin.query_drop(sql).await.unwrap();
}

/// Makes the trigger `later` come before another one.
pub fn precedes(ours: &str, change: &str) -> Vec<String> {
    vec![format!(
        "CREATE OR REPLACE TRIGGER later BEFORE INSERT ON orders FOR EACH ROW PRECEDES {ours} {change}"
    )]
}

/// A server whose log has the name of that of another one.
pub async fn twin_of(server: &Server, start: impl AsyncFn(Options) -> Server) -> Server {
    start(Options {
        settings: vec![("gtid_domain_id".into(), server.number().to_string())],
        ..Options::default()
    })
    .await
}

/// Has a server take the certificate that lies there now.
pub async fn take_certificate(server: &Server) {
    let mut admin = Conn::from_url(server.url("root", "")).await.unwrap();
    admin.query_drop("FLUSH SSL").await.unwrap();
}
