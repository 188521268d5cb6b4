-- The write lease: until when this unit may write at all, on this server's own clock. Read at each write, and again at
-- commit. Run by `install` after `schema.sql`; every statement may be repeated.

-- In a sequence, and both ends in one number: `until << 21 | length`, in milliseconds. What `setval` says is seen at once in
-- every isolation level, waits for nobody, and one read is never torn. In a row it would be none of that: a writer's
-- snapshot hides it, its share lock blocks the renewal, and the unit fences itself.
--   A lease is valid only from `until - length` on: on a clock that was set back it is none, instead of a longer one.
--   Length 0: ended at `until`; only who read the clock after that extends it again.
--   0: none was ever given on this server.
CREATE SEQUENCE IF NOT EXISTS multiactive.lease AS bigint MINVALUE 0 START 0 CACHE 1 NO CYCLE;

-- `leased`: a lease is asked for; since this schema is here that is so from the beginning, whether anybody ever extends one.
-- `server_start`, `brought_term`, `brought_epoch`: to which table `apply` has brought this database since this server runs;
-- null: to none. Whoever extends the lease proves by it that slots which left this unit are closed here, though its own
-- replica of the agent may have done nothing of that.
ALTER TABLE multiactive.store ADD COLUMN IF NOT EXISTS leased boolean NOT NULL DEFAULT false,
                              ADD COLUMN IF NOT EXISTS server_start timestamptz,
                              ADD COLUMN IF NOT EXISTS brought_term integer,
                              ADD COLUMN IF NOT EXISTS brought_epoch bigint;

-- A database that nobody has given a lease has none, rather than not asking for one: that somebody renews in the ledger proves
-- nothing of what has reached it. So has a sequence that was dropped and made again.
UPDATE multiactive.store SET leased = true WHERE NOT leased;
SELECT setval('multiactive.lease', 0) WHERE pg_sequence_last_value('multiactive.lease'::regclass) IS NULL;

-- This server's clock in microseconds since the epoch.
CREATE OR REPLACE FUNCTION multiactive.clock() RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $clock$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$clock$;

-- Lets a write pass while the lease is valid, or refuses it.
CREATE OR REPLACE FUNCTION multiactive.in_lease() RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $in_lease$
DECLARE
    held CONSTANT bigint := pg_sequence_last_value('multiactive.lease'::regclass);
    now_ms CONSTANT double precision := date_part('epoch', clock_timestamp()) * 1000;
    back CONSTANT boolean := now_ms < (held >> 21) - (held & 2097151);
BEGIN
    IF now_ms < (held >> 21) AND NOT back THEN
        RETURN true;
    END IF;
    -- A clock that was set back comes by the same lease again, long after it was over: who meets it ends it, unless it is
    -- being extended in this moment. `setval` stays though this statement fails. Less than a second is waited for.
    IF now_ms + 1000 < (held >> 21) - (held & 2097151) AND pg_try_advisory_xact_lock(27969, 1001)
       AND held = pg_sequence_last_value('multiactive.lease'::regclass) THEN
        PERFORM setval('multiactive.lease', now_ms::bigint << 21);
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'MA004',
        MESSAGE = format('unit %s holds no write lease: %s', (SELECT unit FROM multiactive.store),
                         CASE WHEN coalesce(held, 0) = 0 THEN 'none was given to it on this server'
                              ELSE format(CASE WHEN back THEN 'the clock of this server was set back, to before %s'
                                               WHEN held & 2097151 = 0 THEN 'it was ended at %s'
                                               ELSE 'it ran out at %s' END,
                                          to_char(to_timestamp((held >> 21) / 1000.0) AT TIME ZONE 'UTC',
                                                  'YYYY-MM-DD HH24:MI:SS.MS "UTC"')) END),
        HINT = 'nothing of this transaction was written: send it again through any router, another unit may own the slot by now';
END
$in_lease$;

-- One row for each statement that wrote, for the trigger on it that runs at commit: who wrote before the deadline must not
-- commit after it. A row for every statement and no look for an earlier one: a look would meet every dead version of its row
-- while some long transaction keeps them. A savepoint that is rolled back takes its rows away, and their triggers, and
-- no others. `extend` deletes those that are done.
CREATE UNLOGGED TABLE IF NOT EXISTS multiactive.writing (
    asked  timestamptz,
    again  integer,
    nested integer
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = off);

CREATE OR REPLACE FUNCTION multiactive.arm() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $arm$
BEGIN
    INSERT INTO multiactive.writing DEFAULT VALUES;
    RETURN NULL;
END
$arm$;

-- Runs at commit, or where SET CONSTRAINTS … IMMEDIATE has a transaction's deferred triggers run before it. Then it has to
-- run again at commit: it puts itself behind the rest, deferred. At commit it must not, or the commit would never end.
--   Which of the two it is, nothing tells, but SET CONSTRAINTS stands either in the client's message or in a function or block
--   that runs it. Of the latter PG_CONTEXT has a line; COMMIT in a procedure leaves one too, but one that says so.
--   A message may have both in it, and the word in a comment or a text. So it counts: SET CONSTRAINTS runs it once each, and
--   a message has no more of them than it has that word. It goes behind as often; at commit that just runs in a row.
--   The word cannot be written otherwise: keywords know no escapes.
CREATE OR REPLACE FUNCTION multiactive.check_lease() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $check_lease$
DECLARE
    passed CONSTANT boolean := multiactive.in_lease();
    message CONSTANT text := lower(current_query() COLLATE "C");
    same CONSTANT boolean := NEW.asked IS NOT DISTINCT FROM statement_timestamp();
    again integer := CASE WHEN same THEN NEW.again ELSE 0 END;
    nested integer := CASE WHEN same THEN NEW.nested ELSE 0 END;
    stack text;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF strpos(stack, E'\n') > 0
       AND stack !~ '^[^\n]*\nPL/pgSQL function ((\w+|"\w+")(\.(\w+|"\w+"))?\([^\n()]*\)|inline_code_block) line \d+ at COMMIT(\n|$)' THEN
        IF nested >= 1000 THEN
            RAISE EXCEPTION USING
                ERRCODE = 'MA004',
                MESSAGE = 'it cannot be told whether this is the commit, at which the write lease is checked',
                HINT = 'run SET CONSTRAINTS … IMMEDIATE less often in a transaction, and COMMIT from the client or from PL/pgSQL';
        END IF;
        nested := nested + 1;
    ELSIF again < (length(message) - length(replace(message, 'constraints', ''))) / 11 THEN
        again := again + 1;
    ELSE
        RETURN NULL;
    END IF;
    SET CONSTRAINTS multiactive.check_lease DEFERRED;
    INSERT INTO multiactive.writing VALUES (statement_timestamp(), again, nested);
    RETURN NULL;
END
$check_lease$;

-- When the lease ends, null where none is valid now; and what this clock says.
CREATE OR REPLACE FUNCTION multiactive.held(OUT until bigint, OUT now bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $held$
DECLARE
    packed CONSTANT bigint := pg_sequence_last_value('multiactive.lease'::regclass);
BEGIN
    now := multiactive.clock();
    IF (packed >> 21) * 1000 > now AND ((packed >> 21) - (packed & 2097151)) * 1000 <= now
       AND (SELECT s.server_start = pg_postmaster_start_time() FROM multiactive.store s) THEN
        until := (packed >> 21) * 1000;
    END IF;
END
$held$;

-- Lets writes pass from `since`, in microseconds of this clock, for `length` milliseconds. Absolute, so that it does not matter
-- how late it comes. Refused where the database was not brought to the table that the lease was granted with.
CREATE OR REPLACE FUNCTION multiactive.extend(since bigint, length bigint, granted_term integer, granted_epoch bigint,
                                              OUT refused text, OUT held_term integer, OUT held_epoch bigint, OUT now bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $extend$
DECLARE
    held bigint;
    until CONSTANT bigint := since / 1000 + length;
    brought boolean;
BEGIN
    -- Two that extend go one after the other, else the shorter one might win.
    PERFORM pg_advisory_xact_lock(27969, 1001);
    now := multiactive.clock();
    SELECT s.brought_term, s.brought_epoch, (s.brought_term, s.brought_epoch) >= (granted_term, granted_epoch)
    INTO held_term, held_epoch, brought FROM multiactive.store s WHERE s.server_start = pg_postmaster_start_time();
    IF since > now THEN
        refused := 'clock';
        RETURN;
    END IF;
    IF brought IS NOT TRUE THEN
        refused := 'table';
        RETURN;
    END IF;
    held := coalesce(pg_sequence_last_value('multiactive.lease'::regclass), 0);
    -- What was ended since stays so; what is valid is never shortened. One that begins in the future was of another clock.
    IF (held & 2097151 = 0 AND held >> 21 < since / 1000)
       OR (held & 2097151 > 0 AND (held >> 21 < until OR ((held >> 21) - (held & 2097151)) * 1000 > now)) THEN
        PERFORM setval('multiactive.lease', until << 21 | length);
    END IF;
    UPDATE multiactive.store SET leased = true WHERE NOT leased;
END
$extend$;

-- Ends the lease: of the moments that are still to come none is in it, nor in one that was asked for before.
CREATE OR REPLACE FUNCTION multiactive.expire() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $expire$
BEGIN
    PERFORM pg_advisory_xact_lock(27969, 1001);
    PERFORM setval('multiactive.lease', multiactive.clock() / 1000 << 21);
    UPDATE multiactive.store SET leased = true WHERE NOT leased;
    -- So that who reads the clock after this reads another millisecond.
    PERFORM pg_sleep(0.001);
END
$expire$;

-- Begins anew where this is another server than the one that was last brought to a table: a restarted one, or a copy.
-- No slot is open in it, and before this none opens; so a lease of the server before lets no write pass.
CREATE OR REPLACE FUNCTION multiactive.begin_server() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $begin_server$
BEGIN
    UPDATE multiactive.store SET server_start = pg_postmaster_start_time(), brought_term = NULL, brought_epoch = NULL
    WHERE server_start IS DISTINCT FROM pg_postmaster_start_time();
    IF FOUND THEN
        PERFORM setval('multiactive.lease', 0);
    END IF;
END
$begin_server$;
