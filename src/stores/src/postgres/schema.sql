-- The schema of multiactive in a store's database. Local to the server: of all this only `marker` is replicated.
-- Run in one transaction by `install`, under its advisory lock; every statement may be repeated.

CREATE SCHEMA IF NOT EXISTS multiactive;

-- One row: whose database this is, what is installed, and the highest table epoch that was ever asked for here.
CREATE TABLE IF NOT EXISTS multiactive.store (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    store      text    NOT NULL,
    unit       text    NOT NULL,
    keyspace   text    NOT NULL,
    definition text    NOT NULL,
    digest     text    NOT NULL DEFAULT '',
    seen_term  integer NOT NULL DEFAULT 0,
    seen_epoch bigint  NOT NULL DEFAULT 0
);

-- The fence: one row a slot. A grant counts only for the server start that it names, so a restarted server and a clone
-- hold none.
CREATE TABLE IF NOT EXISTS multiactive.slot (
    keyspace     text    NOT NULL,
    slot         integer NOT NULL,
    open         boolean NOT NULL DEFAULT false,
    term         integer NOT NULL DEFAULT 0,
    epoch        bigint  NOT NULL DEFAULT 0,
    server_start timestamptz,
    PRIMARY KEY (keyspace, slot)
) WITH (fillfactor = 50);

-- Published: each unit writes its own row. A replica that has applied a marker has applied all that was committed
-- before it; `at` is the heartbeat.
CREATE TABLE IF NOT EXISTS multiactive.marker (
    unit  text PRIMARY KEY,
    op    text,
    term  integer,
    epoch bigint,
    at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The position vector of each fence that was made here for an operation: a repeated call gets the same answer.
CREATE TABLE IF NOT EXISTS multiactive.operation (
    op        text    NOT NULL,
    term      integer NOT NULL,
    epoch     bigint  NOT NULL,
    units     text[]  NOT NULL,
    positions text[]  NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (op, term, epoch)
);

-- The operations whose position was reached here: without its record, slots that an operation brings do not open.
CREATE TABLE IF NOT EXISTS multiactive.reached (
    op    text    NOT NULL,
    term  integer NOT NULL,
    epoch bigint  NOT NULL,
    at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (op, term, epoch)
);

-- The links into this server that were ever made: one that has to be made again may have missed rows.
CREATE TABLE IF NOT EXISTS multiactive.link (
    name      text PRIMARY KEY,
    from_unit text NOT NULL,
    made      timestamptz NOT NULL DEFAULT clock_timestamp(),
    gap       text
);

-- How far the links had applied that were removed while their slot stayed at the peer. The slot may stand before that,
-- after a crash of the peer: who adopts it moves it there first, or rows would come twice.
CREATE TABLE IF NOT EXISTS multiactive.applied (
    name     text PRIMARY KEY,
    progress text NOT NULL
);

-- Lets a write to a slot pass, or refuses it. Why so: DATABASES, "Fence per shard".
--   The shared lock comes first: the fencing side waits for its holders to end before it closes a slot.
--   Then the row: in READ COMMITTED a plain read sees every fence that was committed before the lock was granted. In
--   the other levels the snapshot may be older, so FOR SHARE makes it fail with 40001 where the row has changed since.
CREATE OR REPLACE FUNCTION multiactive.admit(the_keyspace text, the_slot integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $admit$
DECLARE
    granted boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(27969, the_slot % 64);
    IF current_setting('transaction_isolation') = 'read committed' THEN
        SELECT s.open AND s.server_start = pg_postmaster_start_time() INTO granted
        FROM multiactive.slot s WHERE s.keyspace = the_keyspace AND s.slot = the_slot;
    ELSE
        SELECT s.open AND s.server_start = pg_postmaster_start_time() INTO granted
        FROM multiactive.slot s WHERE s.keyspace = the_keyspace AND s.slot = the_slot FOR SHARE;
    END IF;
    IF granted THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'MA001',
        MESSAGE = format('keyspace %s, slot %s is not open for writes in unit %s', the_keyspace,
                         coalesce(the_slot::text, 'unknown'), (SELECT unit FROM multiactive.store)),
        HINT = 'send the write to the unit that owns the slot, through any router';
END
$admit$;

CREATE OR REPLACE FUNCTION multiactive.refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'MA001',
        MESSAGE = format('TRUNCATE of %I.%I is refused: it would empty slots of every unit here, and not elsewhere',
                         TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = 'DELETE the rows in the units that own them';
END
$refuse$;
