//! MySQL 9: what is said to its server otherwise than to one of MariaDB. `roles.sql` beside this file lists the rights that are
//! needed; `schema.sql`, `fence.sql` and `guard.sql` are the fence.
//!
//! A server's log has the server's own name, and whatever came from others keeps theirs: so each member's position is a number
//! in a log of its own, and what comes by several ways is applied once.

pub(crate) mod applied;
pub(crate) mod channel;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod passed;
pub(crate) mod snapshot;

use crate::error::Error;
use crate::family::connect::{Session, refusal};
use crate::family::dialect::{Dialect, Kind};
use crate::family::inspect::{FILTERS, SCHEDULER, Setting};
use multiactive_core::hash::Function;

pub(crate) static DIALECT: Dialect = Dialect {
    kind: Kind::MySql,
    setup: "SET SESSION time_zone = '+00:00', autocommit = 1, \
     innodb_lock_wait_timeout = 1, lock_wait_timeout = 4, max_execution_time = 30000, wait_timeout = 60, \
     sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', group_concat_max_len = 1048576, \
     character_set_client = utf8mb4, character_set_results = utf8mb4, character_set_connection = utf8mb4, \
     collation_connection = utf8mb4_bin",
    idle: "wait_timeout",
    wait_timeout: "60",
    // There is no limit for a session that says nothing within a transaction but the one for every session.
    transaction: (
        "SET SESSION wait_timeout = 10; START TRANSACTION",
        "; SET SESSION wait_timeout = 60",
    ),
    statement_limit: |limit| format!("max_execution_time = {}", limit.as_millis().max(1)),
    log_name: "VARCHAR(36)",
    schema: include_str!("schema.sql"),
    fence: include_str!("fence.sql"),
    guard: include_str!("guard.sql"),
    admit: include_str!("admit.sql"),
    fill: "INSERT /*+ SET_VAR(cte_max_recursion_depth = 70000) */ IGNORE INTO multiactive.$table$ (slot) \
           WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < $last$) SELECT n FROM n",
    parts: &[
        ("table", "lease"),
        ("table", "wheel"),
        ("event", "deadline"),
        ("routine", "clock"),
        ("routine", "lease_left"),
        ("routine", "refuse"),
        ("routine", "admit_writers"),
        ("routine", "end_writers"),
        ("routine", "keep_deadline"),
        ("routine", "past_the_log"),
    ],
    // MD5() has become a component that a server may lack.
    digest: ("SHA2(", ", 256)"),
    logs: "@@global.server_uuid, 0, @@global.gtid_owned, @@global.gtid_executed",
    held: "held",
    admit_writers: "CALL multiactive.admit_writers()",
    lock_slots: "SELECT COUNT(*) FROM multiactive.stamp q STRAIGHT_JOIN multiactive.slot s ON s.slot = q.slot \
                 WHERE q.slot BETWEEN $first$ AND $last$ FOR UPDATE OF s",
    set_slots: "UPDATE multiactive.stamp q STRAIGHT_JOIN multiactive.slot s ON s.slot = q.slot SET s.open = ? \
                WHERE q.slot BETWEEN $first$ AND $last$",
    blockers: BLOCKERS,
    all_blockers: ALL_BLOCKERS,
    locked: LOCKED,
    lost_waits: &[1205, 1213, 1317, 3024],
    facts: include_str!("tables.sql"),
    bypassers: BYPASSERS,
    columns: COLUMNS,
    settings: &SETTINGS,
    read_settings: "SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM performance_schema.global_variables WHERE VARIABLE_NAME IN ($names$)",
    read_only: (
        "SELECT v.VARIABLE_SOURCE, IF(@@global.read_only, 'ON', 'OFF') FROM performance_schema.variables_info v WHERE v.VARIABLE_NAME = 'read_only'",
        "DYNAMIC",
    ),
    is_known,
    known: ("MySQL 9", "other releases were not tried"),
    start: START,
    begin: BEGIN,
};

const SETTINGS: [Setting; 24] = [
    ("log_bin", "ON", "links read the log"),
    ("binlog_format", "ROW", "links bring rows, which fire no trigger"),
    ("binlog_row_image", "FULL", "links find and compare whole rows"),
    (
        "log_replica_updates",
        "ON",
        "what one link brings reaches a member whose own link is missing",
    ),
    ("gtid_mode", "ON", "each member's log is one of its own"),
    ("enforce_gtid_consistency", "ON", "each member's log is one of its own"),
    ("binlog_order_commits", "ON", "positions are compared as numbers"),
    (
        "sync_binlog",
        "1",
        "what is acknowledged must be in the log after a crash",
    ),
    (
        "innodb_flush_log_at_trx_commit",
        "1",
        "what is acknowledged must survive a crash",
    ),
    ("replica_exec_mode", "STRICT", "rows that do not fit must stop a link"),
    ("replica_skip_errors", "OFF", "rows that do not fit must stop a link"),
    // With several, two links that have the same transactions in another order wait for each other for ever: each has begun
    // with one that the other has to commit first.
    (
        "replica_parallel_workers",
        "1",
        "links that bring the same rows would wait for each other for ever",
    ),
    (
        "replica_preserve_commit_order",
        "ON",
        "what a link brings of several logs must be applied in its order",
    ),
    (
        "relay_log_recovery",
        "ON",
        "what was received and half written when a server ended must come again",
    ),
    (
        "innodb_rollback_on_timeout",
        "OFF",
        "a fence that waits for a row must stay in its transaction",
    ),
    SCHEDULER,
    (
        "log_bin_trust_function_creators",
        "ON",
        "without it only who has SUPER makes triggers",
    ),
    (
        "skip_replica_start",
        "ON",
        "a link that starts by itself brings what a lost unit wrote last",
    ),
    (
        "performance_schema",
        "ON",
        "who holds up a fence or outlives the write lease is found there",
    ),
    ("innodb_read_only", "OFF", "nothing could be written"),
    (
        "super_read_only",
        "OFF",
        "the fence writes its own rows while the server is read-only",
    ),
    ("replica_type_conversions", "", "rows that do not fit must stop a link"),
    ("offline_mode", "OFF", "the application and the links could not connect"),
    (
        "lower_case_table_names",
        "0",
        "names of tables are compared as they are",
    ),
];

/// Refuses a server that leaves out something of what its links bring.
pub(crate) async fn leaves_nothing_out(session: &mut Session<'_>) -> Result<(), Error> {
    let sql = "SELECT FILTER_NAME FROM performance_schema.replication_applier_global_filters
               UNION SELECT FILTER_NAME FROM performance_schema.replication_applier_filters";
    let found: Vec<String> = session.rows("reading the server's settings", sql, ()).await?;
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::Setting {
            name: "replicate_*",
            is: found.join(", "),
            wanted: "not set",
            why: FILTERS,
        }),
    }
}

/// Refuses a server that lacks the function of the keyspace.
pub(crate) async fn has_function(session: &mut Session<'_>, function: Function) -> Result<(), Error> {
    match function {
        Function::Crc32 | Function::SingleWriter => return Ok(()),
        Function::Md5 => {}
    }
    match session.batch("checking the keyspace's function", "DO MD5('')").await {
        Ok(()) => Ok(()),
        // 1046, 1305: there is no such function.
        Err(error) if refusal(&error).is_some_and(|code| [1046, 1305].contains(&code)) => Err(Error::Setting {
            name: "component_classic_hashing",
            is: "not installed".to_owned(),
            wanted: "installed: INSTALL COMPONENT 'file://component_classic_hashing'",
            why: "the keyspace's function is Md5, which is a component since MySQL 9.6",
        }),
        Err(error) => Err(error),
    }
}

const BLOCKERS: &str = "
    SELECT DISTINCT b.PROCESSLIST_ID, b.PROCESSLIST_USER, IF(b.PROCESSLIST_COMMAND = 'Sleep', 'idle in transaction', 'active'),
           IFNULL(GREATEST(TIMESTAMPDIFF(SECOND, t.trx_started, CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM')) - 1, 0), 0),
           LEFT(IFNULL(b.PROCESSLIST_INFO, ''), 120)
    FROM performance_schema.threads r
    JOIN performance_schema.data_lock_waits w ON w.REQUESTING_THREAD_ID = r.THREAD_ID
    JOIN performance_schema.threads b ON b.THREAD_ID = w.BLOCKING_THREAD_ID
    LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = b.PROCESSLIST_ID
    WHERE r.PROCESSLIST_ID = ? ORDER BY b.PROCESSLIST_ID";

const ALL_BLOCKERS: &str = "
    SELECT DISTINCT b.PROCESSLIST_ID, b.PROCESSLIST_USER, IF(b.PROCESSLIST_COMMAND = 'Sleep', 'idle in transaction', 'active'),
           IFNULL(GREATEST(TIMESTAMPDIFF(SECOND, t.trx_started, CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM')) - 1, 0), 0),
           LEFT(IFNULL(b.PROCESSLIST_INFO, ''), 120)
    FROM performance_schema.data_lock_waits w
    JOIN performance_schema.threads r ON r.THREAD_ID = w.REQUESTING_THREAD_ID
                                     AND r.PROCESSLIST_USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)
    JOIN performance_schema.threads b ON b.THREAD_ID = w.BLOCKING_THREAD_ID
    LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = b.PROCESSLIST_ID
    WHERE r.PROCESSLIST_INFO LIKE '%multiactive.slot %' ORDER BY b.PROCESSLIST_ID";

const LOCKED: &str = "
    (SELECT CONCAT('its rows wait for a lock since ', t.trx_wait_started, ', held by process ', b.PROCESSLIST_ID, ' of ',
                  b.PROCESSLIST_USER, ', ', IF(b.PROCESSLIST_COMMAND = 'Sleep', 'idle in transaction', 'active'), ', since ',
                  IFNULL(o.trx_started, 'a moment ago'), ': ', LEFT(IFNULL(b.PROCESSLIST_INFO, ''), 120))
    FROM performance_schema.data_lock_waits w
    JOIN performance_schema.threads r ON r.THREAD_ID = w.REQUESTING_THREAD_ID AND r.NAME LIKE 'thread/sql/replica%'
    JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = r.PROCESSLIST_ID
    JOIN performance_schema.threads b ON b.THREAD_ID = w.BLOCKING_THREAD_ID AND b.PROCESSLIST_USER IS NOT NULL
    LEFT JOIN information_schema.INNODB_TRX o ON o.trx_mysql_thread_id = b.PROCESSLIST_ID
    WHERE t.trx_wait_started < CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM') - INTERVAL 1 SECOND
    ORDER BY t.trx_wait_started LIMIT 1)
    UNION ALL
    (SELECT CONCAT('its rows wait for table ', m.OBJECT_NAME, ', held by process ', b.PROCESSLIST_ID, ' of ', b.PROCESSLIST_USER,
                   ', ', IF(b.PROCESSLIST_COMMAND = 'Sleep', 'idle', 'active'), ': ', LEFT(IFNULL(b.PROCESSLIST_INFO, ''), 120))
     FROM performance_schema.metadata_locks m
     JOIN performance_schema.threads r ON r.THREAD_ID = m.OWNER_THREAD_ID AND r.NAME LIKE 'thread/sql/replica%'
     JOIN performance_schema.metadata_locks h ON h.OBJECT_SCHEMA = m.OBJECT_SCHEMA AND h.OBJECT_NAME = m.OBJECT_NAME
                                             AND h.LOCK_STATUS = 'GRANTED' AND h.OWNER_THREAD_ID <> m.OWNER_THREAD_ID
     JOIN performance_schema.threads b ON b.THREAD_ID = h.OWNER_THREAD_ID AND b.PROCESSLIST_USER IS NOT NULL
     WHERE m.LOCK_STATUS = 'PENDING' AND m.OBJECT_TYPE = 'TABLE'
       AND (m.LOCK_TYPE = 'EXCLUSIVE' OR h.LOCK_TYPE IN ('SHARED_READ_ONLY', 'SHARED_NO_WRITE', 'SHARED_NO_READ_WRITE', 'EXCLUSIVE'))
     LIMIT 1)";

const BYPASSERS: &str = "
    SELECT DISTINCT p.GRANTEE FROM (
        SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
        UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE :schema LIKE TABLE_SCHEMA
        UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES
                  WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :name) p
    WHERE p.PRIVILEGE_TYPE IN ('DROP', 'ALTER', 'TRIGGER', 'CONNECTION_ADMIN', 'SYSTEM_VARIABLES_ADMIN',
                               'SESSION_VARIABLES_ADMIN', 'REPLICATION_APPLIER', 'TRANSACTION_GTID_TAG', 'BINLOG_ADMIN')
      AND NOT EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES s
                      WHERE s.GRANTEE = p.GRANTEE AND s.PRIVILEGE_TYPE = 'SUPER')
      AND p.GRANTEE NOT LIKE '''mysql.%''@''localhost'''
      AND p.GRANTEE <> CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')
    ORDER BY p.GRANTEE";

const COLUMNS: &str = "
    SELECT COLUMN_NAME, DATA_TYPE LIKE '%binary' OR DATA_TYPE LIKE '%blob' OR DATA_TYPE IN ('bit', 'vector', 'geometry'),
           GENERATION_EXPRESSION = ''
    FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND EXTRA NOT LIKE '%VIRTUAL%' ORDER BY CAST(COLUMN_NAME AS BINARY)";

const START: &str = "
    SELECT s.begun,
           s.begun IS NOT NULL AND v.VARIABLE_SOURCE = 'DYNAMIC'
               AND ABS(UNIX_TIMESTAMP(SYSDATE()) - CAST(u.VARIABLE_VALUE AS SIGNED) - s.started) <= 1
               AND s.begun LIKE CONCAT(@@global.server_uuid, '/%')
    FROM multiactive.store s, performance_schema.variables_info v, performance_schema.global_status u
    WHERE v.VARIABLE_NAME = 'read_only' AND u.VARIABLE_NAME = 'Uptime'";

/// A server that has another name goes on by itself: its log is another one.
const BEGIN: &str = "
    UPDATE multiactive.store
    SET brought_term = NULL, brought_epoch = NULL,
        born = IF(begun IS NULL OR begun LIKE CONCAT(@@global.server_uuid, '/%'), born, UUID()),
        started = UNIX_TIMESTAMP(SYSDATE()) - (SELECT CAST(u.VARIABLE_VALUE AS SIGNED) FROM performance_schema.global_status u
                                               WHERE u.VARIABLE_NAME = 'Uptime'),
        begun = CONCAT(@@global.server_uuid, '/', DATE_FORMAT(SYSDATE(6), '%Y-%m-%dT%H:%i:%s.%fZ'))";

fn is_known(version: &str) -> bool {
    !version.contains("MariaDB") && version.split('.').next() == Some("9")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_apart() {
        for (version, want) in [
            ("9.7.4-2", true),
            ("9.0.1", true),
            ("8.4.3", false),
            ("10.11.19-MariaDB-0+deb12u1-log", false),
            ("", false),
        ] {
            assert_eq!(is_known(version), want, "{version}");
        }
    }
}
