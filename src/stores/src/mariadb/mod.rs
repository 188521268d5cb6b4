//! MariaDB 10.11: what is said to its server otherwise than to one of MySQL. `roles.sql` beside this file lists the rights that
//! are needed; `schema.sql`, `fence.sql` and `guard.sql` are the fence.

pub(crate) mod applied;
pub(crate) mod channel;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod snapshot;

use crate::error::Error;
use crate::family::connect::Session;
use crate::family::dialect::{Dialect, Kind};
use crate::family::inspect::{FILTERS, SCHEDULER, Setting};

pub(crate) static DIALECT: Dialect = Dialect {
    kind: Kind::MariaDb,
    setup: "SET SESSION time_zone = '+00:00', autocommit = 1, \
     innodb_lock_wait_timeout = 1, lock_wait_timeout = 4, max_statement_time = 30, idle_transaction_timeout = 10, \
     sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', group_concat_max_len = 1048576, \
     character_set_client = utf8mb4, character_set_results = utf8mb4, character_set_connection = utf8mb4, \
     collation_connection = utf8mb4_bin",
    idle: "idle_transaction_timeout",
    wait_timeout: "DEFAULT",
    transaction: ("START TRANSACTION", ""),
    statement_limit: |limit| format!("max_statement_time = {}", limit.as_secs_f64().max(0.001)),
    log_name: "INT UNSIGNED",
    schema: include_str!("schema.sql"),
    fence: include_str!("fence.sql"),
    guard: include_str!("guard.sql"),
    admit: include_str!("admit.sql"),
    fill: "INSERT IGNORE INTO multiactive.$table$ (slot) SELECT seq FROM multiactive.seq_0_to_$last$",
    parts: &[
        ("sequence", "lease"),
        ("event", "deadline"),
        ("routine", "clock"),
        ("routine", "lease_left"),
        ("routine", "refuse"),
        ("routine", "end_writers"),
        ("routine", "keep_deadline"),
        ("routine", "past_the_log"),
    ],
    digest: ("MD5(", ")"),
    logs: "CAST(@@global.gtid_domain_id AS CHAR), @@global.server_id, '', @@global.gtid_binlog_pos",
    held: "next_not_cached_value",
    admit_writers: "IF multiactive.lease_left() > 0 AND @@global.read_only THEN SET GLOBAL read_only = 0; END IF",
    lock_slots: "SELECT COUNT(*) FROM multiactive.seq_$first$_to_$last$ q STRAIGHT_JOIN multiactive.slot s ON s.slot = q.seq FOR UPDATE",
    set_slots: "UPDATE multiactive.seq_$first$_to_$last$ q STRAIGHT_JOIN multiactive.slot s ON s.slot = q.seq SET s.open = ?",
    blockers: BLOCKERS,
    all_blockers: ALL_BLOCKERS,
    locked: LOCKED,
    lost_waits: &[1205, 1213, 1317, 1969],
    facts: include_str!("tables.sql"),
    bypassers: BYPASSERS,
    columns: COLUMNS,
    settings: &SETTINGS,
    read_settings: "SELECT LOWER(VARIABLE_NAME), GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME IN ($names$)",
    read_only: (
        "SELECT v.GLOBAL_VALUE_ORIGIN, v.GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES v WHERE v.VARIABLE_NAME = 'READ_ONLY'",
        "SQL",
    ),
    is_known,
    known: ("MariaDB 10.11 or newer", "older ones were not tried"),
    start: START,
    begin: BEGIN,
};

const SETTINGS: [Setting; 21] = [
    ("log_bin", "ON", "links read the log"),
    ("binlog_format", "ROW", "links bring rows, which fire no trigger"),
    (
        "log_slave_updates",
        "ON",
        "what one link brings reaches a member whose own link is missing",
    ),
    ("gtid_strict_mode", "ON", "positions are compared as numbers"),
    (
        "gtid_ignore_duplicates",
        "ON",
        "a row comes by several ways, and counts once",
    ),
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
    (
        "slave_run_triggers_for_rbr",
        "NO",
        "what links bring is not checked by the fence",
    ),
    ("slave_exec_mode", "STRICT", "rows that do not fit must stop a link"),
    ("slave_skip_errors", "OFF", "rows that do not fit must stop a link"),
    (
        "slave_parallel_threads",
        "0",
        "what a link brings of several logs must be applied in its order",
    ),
    ("replicate_do_db", "", FILTERS),
    ("replicate_ignore_db", "", FILTERS),
    ("replicate_do_table", "", FILTERS),
    ("replicate_ignore_table", "", FILTERS),
    ("replicate_wild_do_table", "", FILTERS),
    ("replicate_wild_ignore_table", "", FILTERS),
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
    ("innodb_read_only", "OFF", "nothing could be written"),
];

/// All transactions that have not written yet have the number 0; of those only one with locked rows can be meant.
const BLOCKERS: &str = "
    SELECT DISTINCT p.ID, p.USER, IF(p.COMMAND = 'Sleep', 'idle in transaction', 'active'),
           GREATEST(TIMESTAMPDIFF(SECOND, b.trx_started, CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM')) - 1, 0),
           LEFT(IFNULL(p.INFO, ''), 120)
    FROM information_schema.INNODB_TRX r
    JOIN information_schema.INNODB_LOCK_WAITS w ON w.requesting_trx_id = r.trx_id
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)
    JOIN information_schema.PROCESSLIST p ON p.ID = b.trx_mysql_thread_id
    WHERE r.trx_mysql_thread_id = ? ORDER BY p.ID";

const ALL_BLOCKERS: &str = "
    SELECT DISTINCT p.ID, p.USER, IF(p.COMMAND = 'Sleep', 'idle in transaction', 'active'),
           GREATEST(TIMESTAMPDIFF(SECOND, b.trx_started, CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM')) - 1, 0),
           LEFT(IFNULL(p.INFO, ''), 120)
    FROM information_schema.INNODB_LOCK_WAITS w
    JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
    JOIN information_schema.PROCESSLIST o ON o.ID = r.trx_mysql_thread_id
                                         AND o.USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)
    JOIN information_schema.PROCESSLIST p ON p.ID = b.trx_mysql_thread_id
    WHERE r.trx_query LIKE '%multiactive.slot %' ORDER BY p.ID";

/// Who holds a table the server says only where a plugin is loaded.
const LOCKED: &str = "
    (SELECT CONCAT('its rows wait for a lock since ', r.trx_wait_started, ', held by process ', p.ID, ' of ', p.USER, ', ',
                  IF(p.COMMAND = 'Sleep', 'idle in transaction', 'active'), ', since ', b.trx_started, ': ',
                  LEFT(IFNULL(p.INFO, ''), 120))
    FROM information_schema.INNODB_LOCK_WAITS w
    JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
    JOIN information_schema.PROCESSLIST a ON a.ID = r.trx_mysql_thread_id AND a.USER = 'system user'
    JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)
    JOIN information_schema.PROCESSLIST p ON p.ID = b.trx_mysql_thread_id
    WHERE r.trx_wait_started < CONVERT_TZ(SYSDATE(6), '+00:00', 'SYSTEM') - INTERVAL 1 SECOND
    ORDER BY r.trx_wait_started LIMIT 1)
    UNION ALL
    (SELECT CONCAT('its rows wait for a table (', LOWER(p.STATE), ') that another session has locked, or used in a transaction which \
has not ended: see information_schema.INNODB_TRX and PROCESSLIST')
     FROM information_schema.PROCESSLIST p
     WHERE p.USER = 'system user' AND p.STATE LIKE 'Waiting for table % lock' AND p.TIME_MS > 1000 LIMIT 1)";

const BYPASSERS: &str = "
    SELECT DISTINCT p.GRANTEE FROM (
        SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
        UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE :schema LIKE TABLE_SCHEMA
        UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES
                  WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :name) p
    WHERE p.PRIVILEGE_TYPE IN ('DROP', 'ALTER', 'TRIGGER', 'BINLOG ADMIN', 'BINLOG REPLAY', 'READ ONLY ADMIN', 'DELETE HISTORY')
      AND NOT EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES s
                      WHERE s.GRANTEE = p.GRANTEE AND s.PRIVILEGE_TYPE = 'SUPER')
      AND p.GRANTEE <> CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')
    ORDER BY p.GRANTEE";

const COLUMNS: &str = "
    SELECT COLUMN_NAME, DATA_TYPE LIKE '%binary' OR DATA_TYPE LIKE '%blob' OR DATA_TYPE = 'bit', IS_GENERATED = 'NEVER'
    FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND EXTRA NOT LIKE '%VIRTUAL%' ORDER BY BINARY COLUMN_NAME";

const START: &str = "
    SELECT s.begun,
           s.begun IS NOT NULL AND v.GLOBAL_VALUE_ORIGIN = 'SQL'
               AND ABS(UNIX_TIMESTAMP(SYSDATE()) - CAST(u.VARIABLE_VALUE AS INTEGER) - s.started) <= 1
    FROM multiactive.store s, information_schema.SYSTEM_VARIABLES v, information_schema.GLOBAL_STATUS u
    WHERE v.VARIABLE_NAME = 'READ_ONLY' AND u.VARIABLE_NAME = 'UPTIME'";

const BEGIN: &str = "
    UPDATE multiactive.store
    SET brought_term = NULL, brought_epoch = NULL,
        started = UNIX_TIMESTAMP(SYSDATE()) - (SELECT CAST(u.VARIABLE_VALUE AS INTEGER) FROM information_schema.GLOBAL_STATUS u
                                               WHERE u.VARIABLE_NAME = 'UPTIME'),
        begun = CONCAT(@@server_uid, '/', DATE_FORMAT(SYSDATE(6), '%Y-%m-%dT%H:%i:%s.%fZ'))";

/// Refuses a server that writes into the log that all have from the beginning.
pub(crate) async fn has_a_log_of_its_own(session: &mut Session<'_>) -> Result<(), Error> {
    let sql = "SELECT @@global.gtid_domain_id";
    let domain: u32 = session.row("reading the server's settings", sql, ()).await?;
    match domain {
        0 => Err(Error::Setting {
            name: "gtid_domain_id",
            is: domain.to_string(),
            wanted: "a number that no other member has",
            why: "each member's log is a domain of its own",
        }),
        _ => Ok(()),
    }
}

fn is_known(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let release = numbers.next().zip(numbers.next());
    version.contains("MariaDB") && release >= Some((10, 11))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, want) in [
            ("10.11.19-MariaDB-0+deb12u1-log", true),
            ("11.4.2-MariaDB", true),
            ("10.5.19-MariaDB", false),
            ("9.7.4", false),
            ("MariaDB", false),
        ] {
            assert_eq!(is_known(version), want, "{version}");
        }
    }
}
