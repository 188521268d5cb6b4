//! What tests say to a server of MySQL in its own words.

pub use multiactive_fleet::MySql as Server;
pub use multiactive_fleet::mysql::Options;
use multiactive_stores::MySqlFamily;
use multiactive_stores::access::Access;
use multiactive_stores::driver::StoreSpec;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

pub const ROLES: &str = include_str!("../../src/mysql/roles.sql");
/// What a server has to be given for some function of a keyspace.
pub const FUNCTIONS: Option<&str> = Some("INSTALL COMPONENT 'file://component_classic_hashing'");
/// For how long a link may hear nothing before the server itself connects it again.
pub const NET_TIMEOUT: &str = "replica_net_timeout";
/// What links do about rows that do not fit.
pub const EXEC_MODE: &str = "replica_exec_mode";
pub const STOP_LINKS: &str = "STOP REPLICA";
pub const START_LINKS: &str = "START REPLICA";
/// What reads the log, for a link or for us.
pub const READER: &str = "Binlog Dump GTID";
/// Rows 1 to 3, in a column `seq`.
pub const THREE: &str = "(SELECT 1 AS seq UNION ALL SELECT 2 UNION ALL SELECT 3) three";
pub const STORED: &str = "STORED";
/// How a column of a type's key is written, and read as text.
pub const KEYS: [(&str, &str, &str); 0] = [];
/// Types of keys that are read in the log besides, and values.
pub const ALSO: [(&str, &[&str]); 0] = [];
/// Inserts a row on a clock that stands still, long ago.
pub const LONG_AGO: [&str; 3] = [
    "SET SESSION timestamp = 1",
    "INSERT INTO orders (id, user_id) VALUES ('t', 'u1')",
    "SET SESSION timestamp = DEFAULT",
];
pub const NEW_PASSWORD: &str = "SET PASSWORD FOR multiactive_replication@'%' = 'another'";
/// Settings with which a server is refused, and the name of what is wrong.
pub const SETTINGS: [(&str, &str, &str); 13] = [
    ("binlog_do_db", "shop", "binlog_do_db"),
    ("binlog_ignore_db", "other", "binlog_ignore_db"),
    ("read_only", "OFF", "read_only"),
    ("binlog_row_image", "MINIMAL", "binlog_row_image"),
    ("sysdate_is_now", "", "sysdate_is_now"),
    ("event_scheduler", "OFF", "event_scheduler"),
    ("replica_parallel_workers", "4", "replica_parallel_workers"),
    ("replica_skip_errors", "1062", "replica_skip_errors"),
    ("replicate_ignore_table", "shop.orders", "replicate_*"),
    ("innodb_rollback_on_timeout", "ON", "innodb_rollback_on_timeout"),
    ("relay_log_recovery", "OFF", "relay_log_recovery"),
    ("skip_replica_start", "OFF", "skip_replica_start"),
    ("performance_schema", "OFF", "performance_schema"),
];
/// Changes of the fence's own parts, besides its triggers.
pub const AMISS: [(&str, &str); 4] = [
    ("an event that is disabled", "ALTER EVENT multiactive.deadline DISABLE"),
    (
        "a routine that is another",
        "DROP FUNCTION multiactive.lease_left; CREATE FUNCTION multiactive.lease_left() RETURNS BIGINT DETERMINISTIC RETURN 1000000",
    ),
    ("a lease that is gone", "DROP TABLE multiactive.lease"),
    ("a wheel that is gone", "DROP TABLE multiactive.wheel"),
];

/// Has each commit that stands in the log wait for an answer, for two seconds.
pub const AWAITS_ANSWERS: [&str; 5] = [
    "rpl_semi_sync_source_wait_point = AFTER_SYNC",
    "rpl_semi_sync_source_wait_no_replica = ON",
    "rpl_semi_sync_source_timeout = 2000",
    "rpl_semi_sync_source_enabled = OFF",
    "rpl_semi_sync_source_enabled = ON",
];
pub const ANSWERS_PLUGIN: Option<&str> = Some("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'");

/// Whether a link passes over the tail of a lost unit by itself: else it stops before it until somebody looks.
pub const PASSES_ALONE: bool = false;

/// How long a writer waits after each write: links keep up with it.
pub const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

pub fn new(spec: StoreSpec, access: Access) -> MySqlFamily {
    MySqlFamily::mysql(spec, access)
}

/// The number in a position.
pub fn seq(position: &str) -> u64 {
    position.rsplit(':').next().unwrap().parse().unwrap()
}

/// The number of the last transaction that the server wrote itself.
pub async fn log_end(admin: &mut Conn) -> u64 {
    let sql = "SELECT GTID_SUBTRACT(@@global.gtid_executed, GTID_SUBTRACT(@@global.gtid_executed, CONCAT(@@server_uuid, ':1-9223372036854775806')))";
    let log: Option<String> = admin.query_first(sql).await.unwrap();
    log.unwrap().rsplit(['-', ':']).next().unwrap().parse().unwrap()
}

/// The server forgets its log, but not what it has of others.
pub async fn begin_log_anew(admin: &mut Conn) {
    let sql = "SELECT GTID_SUBTRACT(@@global.gtid_executed, CONCAT(@@server_uuid, ':1-9223372036854775806'))";
    let others: Option<String> = admin.query_first(sql).await.unwrap();
    admin.query_drop(STOP_LINKS).await.unwrap();
    admin.query_drop("RESET BINARY LOGS AND GTIDS").await.unwrap();
    let sql = format!("SET GLOBAL gtid_purged = '{}'", others.unwrap());
    admin.query_drop(sql).await.unwrap();
}

/// Whether a log is closed, of which nothing more is taken.
pub async fn closed_log(admin: &mut Conn) -> Result<(), String> {
    let logs: Vec<String> = admin.query("SELECT log FROM multiactive.closed").await.unwrap();
    (!logs.is_empty()).then_some(()).ok_or("none is closed".to_owned())
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
    let rows: Vec<Row> = admin.query("SHOW REPLICA STATUS").await.unwrap();
    let channel = |row: &Row| Channel {
        name: row.get("Channel_Name").unwrap(),
        port: row.get("Source_Port").unwrap(),
        receives: row.get("Replica_IO_Running").unwrap(),
        applies: row.get("Replica_SQL_Running").unwrap(),
        behind: row.get("Seconds_Behind_Source").unwrap(),
    };
    rows.iter().map(channel).collect()
}

/// Stops what applies a link's rows.
pub fn stop_applying(name: &str) -> String {
    format!("STOP REPLICA SQL_THREAD FOR CHANNEL '{name}'")
}

/// Puts the lease in place as it is kept.
pub async fn set_lease(admin: &mut Conn, packed: i64) {
    for table in ["lease", "wheel"] {
        let sql = format!("UPDATE multiactive.{table} SET held = {packed}");
        admin.query_drop(sql).await.unwrap();
    }
}

/// Makes the trigger `later` come before another one.
pub fn precedes(ours: &str, change: &str) -> Vec<String> {
    vec![
        "DROP TRIGGER later".to_owned(),
        format!("CREATE TRIGGER later BEFORE INSERT ON orders FOR EACH ROW PRECEDES {ours} {change}"),
    ]
}

/// A server whose log has the name of that of another one: a copy of it.
pub async fn twin_of(server: &Server, start: impl AsyncFn(Options) -> Server) -> Server {
    let twin = start(Options::default()).await;
    twin.stop().await;
    std::fs::copy(server.data().join("auto.cnf"), twin.data().join("auto.cnf")).unwrap();
    twin.restart().await.unwrap();
    twin
}

/// Has a server take the certificate that lies there now: one that it does not know it takes only when it starts. It takes
/// writes again, as before.
pub async fn take_certificate(server: &Server) {
    server.restart().await.unwrap();
    let opts = mysql_async::Opts::from_url(&server.url("root", "")).unwrap();
    let mut admin = Conn::new(opts).await.unwrap();
    admin.query_drop("SET GLOBAL read_only = 0").await.unwrap();
}
