-- The schema of multiactive in a store's database. Local to the server: of all this only `marker`, `fenced`, `opening`,
-- `breach`, `joined`, `lost` and `mark` are replicated.
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

-- Which database this is: made once, so that an empty one in its place shows. A person who has brought all rows back into
-- another database gives that one the first one's `incarnation`, but not its `born`; who has brought them back into one that
-- was restored from an older state gives it a new `born`: then peers know that they must link to it anew. `opened`:
-- whether a slot was ever open here, and so rows may have been written. All are told to peers by the publication's comment, for they have no rights on this schema.
ALTER TABLE multiactive.store ADD COLUMN IF NOT EXISTS incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
                              ADD COLUMN IF NOT EXISTS born uuid NOT NULL DEFAULT gen_random_uuid(),
                              ADD COLUMN IF NOT EXISTS opened boolean;

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

-- The epoch at which a table found a slot open and left it so, where that is newer than the slot's own: whoever comes with
-- an older one is refused. Not in the slot's row, for writers hold that locked, or fail where it has changed (`admit`).
CREATE TABLE IF NOT EXISTS multiactive.kept (
    keyspace text    NOT NULL,
    slot     integer NOT NULL,
    term     integer NOT NULL,
    epoch    bigint  NOT NULL,
    PRIMARY KEY (keyspace, slot)
);

-- How far the log had come when a slot was closed last: nothing that was written to it here stands behind that. So a peer that
-- has applied that much lacks nothing of it, whoever owns it now (`reseed`). A slot that an older version closed has none. Not
-- in the slot's row: to add a column, an install would wait for writers that wait for it.
CREATE TABLE IF NOT EXISTS multiactive.closed (
    keyspace text    NOT NULL,
    slot     integer NOT NULL,
    at       pg_lsn  NOT NULL,
    PRIMARY KEY (keyspace, slot)
);

-- Published: each unit writes its own row. A replica that has applied a marker has applied all that was committed
-- before it; `at` is the heartbeat.
CREATE TABLE IF NOT EXISTS multiactive.marker (
    unit  text PRIMARY KEY,
    op    text,
    term  integer,
    epoch bigint,
    at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Whether this unit may write at all.
CREATE OR REPLACE FUNCTION multiactive.writes() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $writes$
BEGIN
    RETURN EXISTS (SELECT FROM multiactive.slot s WHERE s.open AND s.server_start = pg_postmaster_start_time())
           AND (SELECT h.until FROM multiactive.held() h) IS NOT NULL;
END
$writes$;

-- The heartbeat; and how far this log had come before it, so that who has it has all up to there. A peer that must know whether
-- it has all of now asks for one, and whether this unit may write at all: if not, another one may have written more. A row that is changed reaches nobody who has it not, such as a member that joined later: so
-- it is taken away and put back.
CREATE OR REPLACE FUNCTION multiactive.beat(OUT born text, OUT place text, OUT writes boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $beat$
DECLARE
    was multiactive.marker;
BEGIN
    SELECT s.born::text INTO born FROM multiactive.store s;
    writes := multiactive.writes();
    place := pg_current_wal_insert_lsn()::text;
    PERFORM pg_advisory_xact_lock(27969, 1005);
    DELETE FROM multiactive.marker m USING multiactive.store s WHERE m.unit = s.unit RETURNING m.* INTO was;
    INSERT INTO multiactive.marker (unit, op, term, epoch, at)
    SELECT s.unit, was.op, was.term, was.epoch, clock_timestamp() FROM multiactive.store s;
END
$beat$;

-- Runs in the worker that applies a link: a unit whose database was made anew begins anew, and its old row is in the way.
CREATE OR REPLACE FUNCTION multiactive.take_marker() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $take_marker$
BEGIN
    DELETE FROM multiactive.marker m WHERE m.unit = NEW.unit;
    RETURN NEW;
END
$take_marker$;

CREATE OR REPLACE TRIGGER take_marker BEFORE INSERT ON multiactive.marker
FOR EACH ROW EXECUTE FUNCTION multiactive.take_marker();
ALTER TABLE multiactive.marker ENABLE REPLICA TRIGGER take_marker;

-- Published: the position vector of each fence that was made for an operation; a repeated call gets the same answer. The
-- row stands in its unit's log after every write that the fence let pass. So a replica that has applied it has applied
-- all of those, and knows from it what else to wait for.
CREATE TABLE IF NOT EXISTS multiactive.fenced (
    unit      text    NOT NULL,
    op        text    NOT NULL,
    term      integer NOT NULL,
    epoch     bigint  NOT NULL,
    units     text[]  NOT NULL,
    positions text[]  NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (op, unit, term, epoch)
);
DROP TABLE IF EXISTS multiactive.operation;

-- The operations whose position was reached here: without its record, slots that an operation brings do not open.
CREATE TABLE IF NOT EXISTS multiactive.reached (
    op    text    NOT NULL,
    term  integer NOT NULL,
    epoch bigint  NOT NULL,
    at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (op, term, epoch)
);
-- The position, for `opening`; records of older versions have none.
ALTER TABLE multiactive.reached ADD COLUMN IF NOT EXISTS units text[], ADD COLUMN IF NOT EXISTS positions text[];

-- The links into this server that were ever made: one that has to be made again may have missed rows.
CREATE TABLE IF NOT EXISTS multiactive.link (
    name      text PRIMARY KEY,
    from_unit text NOT NULL,
    made      timestamptz NOT NULL DEFAULT clock_timestamp(),
    gap       text
);

-- What the link was made with: of another incarnation it brings nothing; with another `born` it is made anew.
ALTER TABLE multiactive.link ADD COLUMN IF NOT EXISTS incarnation text, ADD COLUMN IF NOT EXISTS born text;

-- Where a copy of rows ends the gap: up to `sound` of the unit's log nothing is missing here. Null where there is no gap, or
-- one that only a person can judge. `lacking`: once the unit's own slots were copied, the slots that it had closed since
-- `sound` and whose rows differed here; they are complete once they were copied from who has them open.
ALTER TABLE multiactive.link ADD COLUMN IF NOT EXISTS sound pg_lsn, ADD COLUMN IF NOT EXISTS lacking int4multirange;

-- How far a link had come when it was made or removed: nothing before that is still to come. A slot that stays at the
-- peer while its link is removed may stand before it, after a crash of the peer: who adopts the slot moves it there
-- first, or rows would come twice.
CREATE TABLE IF NOT EXISTS multiactive.applied (
    name     text PRIMARY KEY,
    progress text NOT NULL
);

-- Lets a write to a slot pass, or refuses it. Why so: DATABASES, "Fence per shard".
--   The shared lock comes first: the fencing side waits for its holders to end before it closes a slot.
--   Then the row: in READ COMMITTED a plain read sees every fence that was committed before the lock was granted. In
--   the other levels the snapshot may be older, so FOR SHARE makes it fail with 40001 where the row has changed since.
--   The unit's write lease last: it is read now, and nothing may stand between it and the write that waits long.
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
        RETURN multiactive.in_lease();
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

-- Published: an operation brought slots here, and opened them. The row stands in the log before every write that it let
-- in, for the slots open in its transaction; `positions` is how far the log of each unit had come at the operation's
-- fences, those of the slots' former owners among them. Only in the log does the row matter: receivers do not store it.
CREATE TABLE IF NOT EXISTS multiactive.opening (
    unit      text    NOT NULL,
    op        text    NOT NULL,
    term      integer NOT NULL,
    epoch     bigint  NOT NULL,
    units     text[]  NOT NULL,
    positions text[]  NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (unit, op, term, epoch)
);

-- The operations that brought slots to `owner` and of which this server has all rows that their former owners wrote: the link
-- from there has passed the opening, up to the positions in it, or the owner's rows were copied since (then without). With
-- `surplus` it had received more of a lost unit than the new owner, so it has rows that nobody owns: see `note_surplus`.
CREATE TABLE IF NOT EXISTS multiactive.passed (
    op        text PRIMARY KEY,
    owner     text,
    units     text[],
    positions text[],
    surplus   boolean NOT NULL DEFAULT false,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Runs in the worker that applies a link, when an opening comes, and lets it pass only where this server has applied
-- the positions in it. So a member that was away when slots moved applies nothing of their new owner before all that
-- their former owners wrote, whatever its agent does: else an old row would come after the new one and win, in silence.
--   Links wait for each other here and still none waits for ever: every position in an opening was read before that
--   opening was written, so of all openings that wait the oldest waits for nothing that is behind another one. The
--   worker holds no lock on any row meanwhile: the opening is all that there is in its transaction.
--   It waits less than half of the peer's wal_sender_timeout (10 s, see `conninfo`), within which the worker must answer,
--   and fails: the worker starts again and meets the same row, until the writes are there. `links` reads what it waits
--   for from the worker's application_name.
--   A unit counts while `link` knows a link from it, whatever its state. What a lost unit wrote, and its link that is cut
--   will never bring, is there once `cut` says that it was repaired; who gives it up removes that link and its row.
CREATE OR REPLACE FUNCTION multiactive.hold_back() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $hold_back$
DECLARE
    until CONSTANT timestamptz := clock_timestamp() + interval '4 seconds';
    missing record;
BEGIN
    LOOP
        SELECT w.unit, w.position, coalesce(p.applied::text, 'nothing') AS applied INTO missing
        FROM unnest(NEW.units, NEW.positions) AS w(unit, position)
        JOIN multiactive.link l ON l.from_unit = w.unit
        LEFT JOIN multiactive.applied a ON a.name = l.name
        LEFT JOIN pg_subscription s ON s.subname = l.name::name
             AND s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        CROSS JOIN LATERAL (
            SELECT greatest(pg_replication_origin_progress('pg_' || s.oid, true), a.progress::pg_lsn,
                            (SELECT c.repaired FROM multiactive.cut c WHERE c.from_unit = w.unit AND c.stands)) AS applied) p
        WHERE w.unit <> NEW.unit AND w.unit <> (SELECT o.unit FROM multiactive.store o)
          AND (p.applied >= w.position::pg_lsn) IS NOT TRUE
        ORDER BY w.unit LIMIT 1;
        IF NOT FOUND THEN
            INSERT INTO multiactive.passed (op, owner, units, positions) VALUES (NEW.op, NEW.unit, NEW.units, NEW.positions)
            ON CONFLICT (op) DO UPDATE SET units = excluded.units, positions = excluded.positions;
            RETURN NULL;
        END IF;
        PERFORM set_config('application_name', format('awaits %s of %s', missing.position, missing.unit), true);
        IF clock_timestamp() > until THEN
            RAISE EXCEPTION USING
                ERRCODE = 'MA002',
                MESSAGE = format('slots were opened in unit %s: its writes wait here for those of %s up to %s, of which %s is applied',
                                 NEW.unit, missing.unit, missing.position, missing.applied),
                HINT = 'it is tried again; the link from the other unit has to bring them';
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$hold_back$;

-- In appliers only: the unit itself writes its openings freely.
CREATE OR REPLACE TRIGGER hold_back BEFORE INSERT ON multiactive.opening
FOR EACH ROW EXECUTE FUNCTION multiactive.hold_back();
ALTER TABLE multiactive.opening ENABLE REPLICA TRIGGER hold_back;

-- How `install` left each thing that must stay so: triggers, functions, the publication and its tables.
CREATE TABLE IF NOT EXISTS multiactive.placed (
    kind   text NOT NULL,
    object text NOT NULL,
    name   text NOT NULL,
    words  text NOT NULL,
    PRIMARY KEY (kind, object, name)
);

-- Published: this unit's fence or publication was not in place for a while, and was put back. Written in the transaction
-- that puts it back, so that in the log it stands before whatever the fence then guards. `fence`: rows may have been
-- written past the fence; else rows may not have been published. A person deletes it once all rows were compared.
CREATE TABLE IF NOT EXISTS multiactive.breach (
    unit  text        NOT NULL,
    at    timestamptz NOT NULL,
    fence boolean     NOT NULL,
    words text        NOT NULL,
    PRIMARY KEY (unit, at)
);

-- The unit's database went on as another one since then, with rows that a person brought back: its new `born`.
ALTER TABLE multiactive.breach ADD COLUMN IF NOT EXISTS reborn text;

-- Adds to why rows of a unit may be missing or wrong here; the first word stays the first. No copy of rows ends that.
CREATE OR REPLACE FUNCTION multiactive.add_gap(unit text, why text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $add_gap$
    UPDATE multiactive.link l SET gap = left(concat_ws('; ', l.gap, add_gap.why), 4000), sound = NULL
    WHERE l.from_unit = add_gap.unit AND add_gap.why IS NOT NULL
$add_gap$;

-- Runs in the worker that applies a link: what the link brought, or did not bring, may be wrong, which is its gap. So it
-- reaches every receiver, one that is away too, whatever the agents do.
CREATE OR REPLACE FUNCTION multiactive.heed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $heed$
BEGIN
    -- Who is told of a new life by the log itself reads the right log: the link stays.
    UPDATE multiactive.link
    SET gap = left(concat_ws('; ', gap, NEW.words), 4000), sound = NULL, born = coalesce(NEW.reborn, born),
        passed = CASE WHEN NEW.reborn IS NULL THEN passed END
    WHERE from_unit = NEW.unit;
    RETURN NULL;
END
$heed$;

CREATE OR REPLACE TRIGGER heed BEFORE INSERT ON multiactive.breach FOR EACH ROW EXECUTE FUNCTION multiactive.heed();
ALTER TABLE multiactive.breach ENABLE REPLICA TRIGGER heed;

-- Published: a table joined the publication. Written in the transaction that added it, which lets nobody write to the table
-- meanwhile: in the log all rows of the table that are published stand behind this one. `gap`: rows of it may be missing
-- elsewhere all the same, why, and what to do. Only in the log does the row matter: receivers do not store it.
CREATE TABLE IF NOT EXISTS multiactive.joined (
    unit   text        NOT NULL,
    number integer     NOT NULL,
    tab    text        NOT NULL,
    gap    text,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (unit, number)
);

-- The last of those tables of the peer that left its publication before this server had them: they are waited for no more.
ALTER TABLE multiactive.link ADD COLUMN IF NOT EXISTS passed integer;

-- Runs in the worker that applies a link, when a table has joined at the other end, and lets the link go on only once it
-- brings that table: of a table that it does not know a worker skips every row, in silence. `link` adds it.
--   It waits for less than sessions of ours wait for a lock, so that an install is not in its way, nor it in an install's,
--   and fails: the worker starts again and meets the same row. A worker asks anew at every change whether it knows the
--   table, as long as it does not. What is awaited is told by its application_name, which has 63 bytes.
CREATE OR REPLACE FUNCTION multiactive.await_table() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $await$
DECLARE
    until CONSTANT timestamptz := clock_timestamp() + interval '3 seconds';
    subscription CONSTANT oid := (SELECT w.subid FROM pg_stat_subscription w WHERE w.pid = pg_backend_pid());
BEGIN
    WHILE subscription IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_subscription_rel r
                          WHERE r.srsubid = subscription AND r.srrelid = to_regclass(NEW.tab))
          AND NOT EXISTS (SELECT FROM multiactive.link l WHERE l.from_unit = NEW.unit AND l.passed >= NEW.number)
    LOOP
        PERFORM set_config('application_name', format('awaits %s %s %s', CASE WHEN to_regclass(NEW.tab) IS NULL
                           THEN 'missing' ELSE 'table' END, NEW.number, NEW.tab), true);
        IF clock_timestamp() > until THEN
            RAISE EXCEPTION USING
                ERRCODE = 'MA003',
                MESSAGE = format('table %s joined the store in unit %s, and the link does not bring it yet', NEW.tab, NEW.unit),
                HINT = 'it is tried again; the agent adds the table to the link, once it is in this database';
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
    PERFORM multiactive.add_gap(NEW.unit, NEW.gap);
    RETURN NULL;
END
$await$;

CREATE OR REPLACE TRIGGER await_table BEFORE INSERT ON multiactive.joined
FOR EACH ROW EXECUTE FUNCTION multiactive.await_table();
ALTER TABLE multiactive.joined ENABLE REPLICA TRIGGER await_table;

-- What this database says of itself to peers, as the publication's comment.
CREATE OR REPLACE FUNCTION multiactive.introduction() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $introduction$
    SELECT format('multiactive: %s, %s, %s', s.incarnation, s.born,
                  CASE WHEN s.opened OR s.incarnation <> s.born THEN 'opened' ELSE 'never opened' END)
    FROM multiactive.store s
$introduction$;

-- A person says that rows were brought back: every receiver is told, in the log and by the publication's comment at once,
-- and what others wrote since the older state may be missing here.
CREATE OR REPLACE FUNCTION multiactive.tell_birth() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $tell$
DECLARE
    told text := format('rows were brought back into %s''s database by hand at %s', NEW.unit,
                        to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'));
    publication name;
BEGIN
    INSERT INTO multiactive.breach (unit, at, fence, words, reborn)
    VALUES (NEW.unit, clock_timestamp(), false,
            told || format(': rows that %s wrote before may be missing here; compare the rows and repair', NEW.unit),
            NEW.born::text);
    PERFORM multiactive.add_gap(l.from_unit, told || format(': rows of %s may be missing here; compare the rows and repair',
                                                            l.from_unit))
    FROM multiactive.link l;
    FOR publication IN SELECT pubname FROM pg_publication
                       WHERE obj_description(oid, 'pg_publication') LIKE 'multiactive: ' || OLD.incarnation || ', %'
    LOOP
        EXECUTE format('COMMENT ON PUBLICATION %I IS %L', publication, multiactive.introduction());
    END LOOP;
    RETURN NULL;
END
$tell$;

CREATE OR REPLACE TRIGGER tell_birth AFTER UPDATE OF born ON multiactive.store FOR EACH ROW
WHEN (OLD.born <> NEW.born AND OLD.digest <> '') EXECUTE FUNCTION multiactive.tell_birth();

-- From when on rows of this database count as changed, for the unit that compares them: the oldest transaction that still ran. It
-- means something in this server only, and while its log goes on in one line.
CREATE TABLE IF NOT EXISTS multiactive.horizon (
    id     text        PRIMARY KEY,
    reader text        NOT NULL,
    server text        NOT NULL,
    oldest xid8        NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What is called a server here: one that was restored from before, or took over from another one, goes on in another timeline.
CREATE OR REPLACE FUNCTION multiactive.timeline() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $timeline$
    SELECT c.system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) FROM pg_control_system() c;
$timeline$;

-- For peers, too. The newest of each reader are kept: each comparison takes one.
CREATE OR REPLACE FUNCTION multiactive.take_horizon(reader text) RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $take_horizon$
    DELETE FROM multiactive.horizon WHERE horizon.id IN (
        SELECT h.id FROM multiactive.horizon h WHERE h.reader = take_horizon.reader ORDER BY h.at DESC OFFSET 999
        FOR UPDATE SKIP LOCKED);
    INSERT INTO multiactive.horizon (id, reader, server, oldest)
    VALUES (gen_random_uuid()::text, take_horizon.reader, multiactive.timeline(), pg_snapshot_xmin(pg_current_snapshot()))
    RETURNING horizon.id;
$take_horizon$;

-- Slots whose rows were equal to their owner's in a comparison that began behind two horizons, while tables had these shapes.
CREATE TABLE IF NOT EXISTS multiactive.found_equal (
    owner       text           NOT NULL,
    slots       int4multirange NOT NULL,
    here        text           NOT NULL,
    there       text           NOT NULL,
    shape       text           NOT NULL,
    shape_there text           NOT NULL,
    at          timestamptz    NOT NULL DEFAULT clock_timestamp()
);

-- Published: whoever compares his rows with those of this unit marks a place in its log. Only in the log does the row matter.
CREATE TABLE IF NOT EXISTS multiactive.mark (
    id     text        PRIMARY KEY,
    unit   text        NOT NULL,
    reader text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Marks a place in the log for the unit that compares. For peers: they have no other right to write here.
CREATE OR REPLACE FUNCTION multiactive.mark_place(reader text, id text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $mark_place$
    DELETE FROM multiactive.mark WHERE mark.id IN (
        SELECT m.id FROM multiactive.mark m JOIN multiactive.store s ON s.unit = m.unit
        WHERE m.at < clock_timestamp() - interval '1 day' FOR UPDATE OF m SKIP LOCKED);
    INSERT INTO multiactive.mark (id, unit, reader)
    SELECT mark_place.id, s.unit, mark_place.reader FROM multiactive.store s;
$mark_place$;

-- Runs in the worker that applies a link, when a mark comes: what stands before it in the log is applied, and nothing behind
-- it. Whoever compares holds the lock, takes his snapshot while the worker waits here, and lets it go on; where he has gone,
-- nobody holds it, and where he is stuck the worker goes on by itself, in less than half of the peer's wal_sender_timeout.
CREATE OR REPLACE FUNCTION multiactive.stop_at_place() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $stop_at_place$
BEGIN
    IF NEW.reader = (SELECT s.unit FROM multiactive.store s) THEN
        PERFORM set_config('lock_timeout', '4s', true);
        PERFORM pg_advisory_xact_lock_shared(hashtextextended(NEW.id, 27969));
    END IF;
    RETURN NEW;
EXCEPTION WHEN lock_not_available THEN
    RETURN NEW;
END
$stop_at_place$;

CREATE OR REPLACE TRIGGER stop_at_place BEFORE INSERT ON multiactive.mark
FOR EACH ROW EXECUTE FUNCTION multiactive.stop_at_place();
ALTER TABLE multiactive.mark ENABLE REPLICA TRIGGER stop_at_place;
