-- The fence's routines, one statement after each `--;`. $…$ marks what is filled in.

-- This server's clock in microseconds since the epoch, inside of a statement too, so never NOW(); and whatever the
-- session's time zone is, in which an hour of autumn comes twice.
CREATE OR REPLACE FUNCTION multiactive.clock() RETURNS BIGINT NOT DETERMINISTIC READS SQL DATA
BEGIN
    DECLARE zone VARCHAR(64) DEFAULT @@session.time_zone;
    DECLARE micros BIGINT;
    IF $utc$ THEN
        RETURN CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS INTEGER);
    END IF;
    SET SESSION time_zone = '+00:00';
    SET micros = CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS INTEGER);
    SET SESSION time_zone = zone;
    RETURN micros;
END
--;
-- The slot of a key, by an exact override or the function, of the UTF-8 bytes of its text.
CREATE OR REPLACE FUNCTION multiactive.$slot_function$(k LONGTEXT CHARACTER SET utf8mb4) RETURNS INT DETERMINISTIC READS SQL DATA
RETURN $expression$
--;
-- How long the lease is still valid, in microseconds; 0 where it is not. On a clock that was set back it is none, instead
-- of a longer one. DIV and MOD, for what is shifted has no sign: a difference below zero would be an error.
CREATE OR REPLACE FUNCTION multiactive.lease_left() RETURNS BIGINT NOT DETERMINISTIC READS SQL DATA
BEGIN
    DECLARE held BIGINT DEFAULT (SELECT l.next_not_cached_value FROM multiactive.lease l);
    DECLARE micros BIGINT DEFAULT multiactive.clock();
    IF micros < ((held DIV 2097152) - (held MOD 2097152)) * 1000 THEN
        RETURN 0;
    END IF;
    RETURN GREATEST((held DIV 2097152) * 1000 - micros, 0);
END
--;
-- Refuses a write: because the slot is not open here, or for the write lease. Our own user writes to slots that are not open
-- where it copies rows, which is out of the log.
CREATE OR REPLACE PROCEDURE multiactive.refuse(the_slot INT, granted BOOL) READS SQL DATA
whole: BEGIN
    DECLARE said VARCHAR(500);
    DECLARE held BIGINT DEFAULT (SELECT l.next_not_cached_value FROM multiactive.lease l);
    IF NOT @@session.sql_log_bin AND SUBSTRING_INDEX(USER(), '@', 1) = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) THEN
        LEAVE whole;
    END IF;
    IF NOT granted THEN
        SET said = CONCAT($keyspace$, IFNULL(the_slot, 'unknown'), ' is not open for writes in unit ', $unit$,
                          ': send the write to the unit that owns the slot, through any router');
        SIGNAL SQLSTATE 'MA001' SET MYSQL_ERRNO = 30001, MESSAGE_TEXT = said;
    END IF;
    SET said = CONCAT('unit ', $unit$, ' holds no write lease: ', CASE
        WHEN held = 0 THEN 'none was given to it on this server'
        WHEN held MOD 2097152 = 0 THEN CONCAT('it was ended at ', $until$)
        WHEN multiactive.lease_left() > 0 THEN 'the server has started since it was given one, or somebody made it read-only'
        WHEN held DIV 2097152 > multiactive.clock() / 1000
            THEN CONCAT('the clock of this server was set back, to before ', $until$)
        ELSE CONCAT('it ran out at ', $until$) END,
        '; nothing was written: send it again through any router, another unit may own the slot by now');
    SIGNAL SQLSTATE 'MA004' SET MYSQL_ERRNO = 30004, MESSAGE_TEXT = said;
END
--;
-- Ends whoever could still commit what he wrote while there was a lease, and turns the server read-only: in this order, for
-- read_only alone waits for a statement that waits for a lock, and is acknowledged first. Who has just begun may not be listed
-- yet (the list is 100 ms old where others read it too): so it does not wait at first, and lists again. Prepared transactions of
-- XA cannot be ended; a fence refuses while there are any. What applies links goes on, and so do sessions of our own user.
CREATE OR REPLACE PROCEDURE multiactive.end_writers() MODIFIES SQL DATA
BEGIN
    DECLARE victim BIGINT;
    DECLARE done BOOL DEFAULT FALSE;
    DECLARE held BOOL DEFAULT FALSE;
    DECLARE tries INT DEFAULT 0;
    DECLARE writers CURSOR FOR
        SELECT t.trx_mysql_thread_id FROM information_schema.innodb_trx t
        JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
        WHERE p.user NOT IN ('system user', SUBSTRING_INDEX(CURRENT_USER(), '@', 1));
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = TRUE;
    -- 1094: gone meanwhile; 1205: a statement runs for longer than we wait.
    DECLARE CONTINUE HANDLER FOR 1094, 1205 BEGIN END;
    -- Whoever extends the lease holds the same lock: it is not ended behind his back. But who holds it and says nothing must not
    -- keep writers beyond its end: then the lease is looked at alone, and a server that was extended meanwhile is let write by the
    -- next extension.
    SET held = GET_LOCK('multiactive.lease', 0.3);
    WHILE tries < 4 AND multiactive.lease_left() = 0 AND NOT @@global.read_only DO
        IF tries > 0 THEN
            DO SLEEP(0.105);
        END IF;
        SET done = FALSE;
        OPEN writers;
        REPEAT
            FETCH writers INTO victim;
            IF NOT done THEN
                KILL victim;
            END IF;
        UNTIL done END REPEAT;
        CLOSE writers;
        SET SESSION lock_wait_timeout = IF(tries < 3, 0, 1);
        SET GLOBAL read_only = 1;
        SET tries = tries + 1;
    END WHILE;
    SET SESSION lock_wait_timeout = 4;
    IF held THEN
        DO RELEASE_LOCK('multiactive.lease');
    END IF;
END
--;
-- Once a second: where the lease ends before the next time, waits for that, looks again, and ends writers.
CREATE OR REPLACE PROCEDURE multiactive.keep_deadline() MODIFIES SQL DATA
BEGIN
    DECLARE micros BIGINT;
    IF NOT @@global.read_only THEN
        SET micros = multiactive.lease_left();
        IF micros > 0 AND micros < 1050000 THEN
            DO SLEEP(micros / 1000000);
        END IF;
        IF multiactive.lease_left() = 0 THEN
            CALL multiactive.end_writers();
        END IF;
    END IF;
END
--;
-- Whoever writes rows of sharded tables past the log says so first, in each transaction that does: the log does not tell that those
-- rows changed, so it must be known that some did. A count that is rolled back counts nothing, so it is counted as often as he says
-- so. Until he ends, or releases the lock behind his last commit, nobody notes that rows are equal.
CREATE OR REPLACE PROCEDURE multiactive.past_the_log() MODIFIES SQL DATA
BEGIN
    DECLARE words VARCHAR(128);
    IF @@session.sql_log_bin THEN
        SIGNAL SQLSTATE 'MA006' SET MYSQL_ERRNO = 30006, MESSAGE_TEXT = 'SET SESSION sql_log_bin = 0 first';
    END IF;
    IF NOT (IS_USED_LOCK('multiactive.unlogged') <=> CONNECTION_ID()) THEN
        IF NOT (GET_LOCK('multiactive.unlogged', 2) <=> 1) THEN
            SET words = CONCAT('session ', IFNULL(IS_USED_LOCK('multiactive.unlogged'), '?'), ' writes past the log');
            SIGNAL SQLSTATE 'MA006' SET MYSQL_ERRNO = 30006, MESSAGE_TEXT = words;
        END IF;
    END IF;
    UPDATE multiactive.unlogged SET number = number + 1 WHERE part = 0;
END
--;
CREATE EVENT IF NOT EXISTS multiactive.deadline ON SCHEDULE EVERY 1 SECOND DO CALL multiactive.keep_deadline()
--;
ALTER EVENT multiactive.deadline ENABLE DO CALL multiactive.keep_deadline()
