-- What is cut: after a unit was lost, nothing more is taken from it, and the unit itself takes nothing of who writes its
-- slots now, before a person has accepted what differs. Run by `install` after `schema.sql`; every statement may be repeated.

-- The units of which nothing is taken here. `applied`: how far that unit's log was applied when the link stood still;
-- `repaired`: up to where what is missing behind that was brought here another way. A row stays when the cut does not stand any
-- more, so that a late call of an older epoch does not cut again.
CREATE TABLE IF NOT EXISTS multiactive.cut (
    from_unit text    PRIMARY KEY,
    op        text    NOT NULL,
    term      integer NOT NULL,
    epoch     bigint  NOT NULL,
    stands    boolean NOT NULL,
    applied   pg_lsn,
    repaired  pg_lsn,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A link that was cut goes on at the peer's log as it is then, not where it was: what the peer has written meanwhile was
-- compared, or is the link's gap. `true`: it was compared.
ALTER TABLE multiactive.link ADD COLUMN IF NOT EXISTS anew boolean;

-- Lets a link go on, unless it is cut. Whoever cuts holds the same lock while he notes it: no link is enabled after that.
CREATE OR REPLACE FUNCTION multiactive.enable(link text, from_unit text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $enable$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(27969, 1002);
    IF EXISTS (SELECT FROM multiactive.cut c WHERE c.from_unit = enable.from_unit AND c.stands) THEN
        RETURN false;
    END IF;
    EXECUTE format('ALTER SUBSCRIPTION %I ENABLE', link);
    RETURN true;
END
$enable$;

-- Published: an operation took slots from units that were lost. Written in the transaction that opens them elsewhere, so
-- that in the log it stands before every write that this let in. Only in the log does the row matter: receivers do not
-- store it.
CREATE TABLE IF NOT EXISTS multiactive.lost (
    unit      text    NOT NULL,
    op        text    NOT NULL,
    term      integer NOT NULL,
    epoch     bigint  NOT NULL,
    lost_unit text    NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (unit, op, term, epoch, lost_unit)
);
ALTER TABLE multiactive.reached ADD COLUMN IF NOT EXISTS lost text[];

-- The operations that took slots from this unit while it was lost, and whose differences were accepted.
CREATE TABLE IF NOT EXISTS multiactive.rejoined (
    op text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Runs in the worker that applies a link, where the other end took slots over: in the unit that was lost it lets nothing
-- pass behind it, for what the new owner writes would overwrite what has to be compared. It waits and fails, as `hold_back`
-- does, until `rejoined` says that the differences were accepted.
CREATE OR REPLACE FUNCTION multiactive.quarantine() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $quarantine$
DECLARE
    until CONSTANT timestamptz := clock_timestamp() + interval '4 seconds';
BEGIN
    WHILE NEW.lost_unit = (SELECT o.unit FROM multiactive.store o)
          AND NOT EXISTS (SELECT FROM multiactive.rejoined r WHERE r.op = NEW.op)
    LOOP
        PERFORM set_config('application_name', format('awaits rejoin %s', NEW.op), true);
        IF clock_timestamp() > until THEN
            RAISE EXCEPTION USING
                ERRCODE = 'MA005',
                MESSAGE = format('unit %s was lost to operation %s: what unit %s writes waits here', NEW.lost_unit, NEW.op, NEW.unit),
                HINT = 'it is tried again; compare the rows, and accept what differs';
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
    -- Where an opening comes with it, that says how far; without, the new owner had nothing of it.
    INSERT INTO multiactive.passed (op, owner, units, positions)
    VALUES (NEW.op, NEW.unit, ARRAY[NEW.lost_unit], ARRAY['0/0']) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$quarantine$;

CREATE OR REPLACE TRIGGER quarantine BEFORE INSERT ON multiactive.lost
FOR EACH ROW EXECUTE FUNCTION multiactive.quarantine();
ALTER TABLE multiactive.lost ENABLE REPLICA TRIGGER quarantine;

-- A member that had received more of a lost unit than who took its slots over has rows that nobody owns: the new owner deletes,
-- changes and inserts without them, and what it writes fails here, or goes wrong in silence. That is the gap of the link from
-- there, which a copy of the owner's rows ends. Called whenever somebody asks what has passed.
CREATE OR REPLACE FUNCTION multiactive.note_surplus() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $surplus$
    WITH more AS (
        UPDATE multiactive.passed p SET surplus = true
        WHERE NOT p.surplus
          AND EXISTS (SELECT FROM unnest(p.units, p.positions) AS w(unit, position)
                      JOIN multiactive.cut c ON c.from_unit = w.unit AND c.stands
                      WHERE greatest(c.applied, c.repaired) > w.position::pg_lsn)
        RETURNING p.owner)
    UPDATE multiactive.link l
    SET gap = coalesce(l.gap, format('this member had received more of a lost unit than %s, which took its slots over: rows that '
                                     'nobody owns may be here', l.from_unit)),
        lacking = NULL, sound = CASE WHEN l.gap IS NULL THEN '0/0' ELSE l.sound END
    WHERE l.from_unit IN (SELECT m.owner FROM more m)
$surplus$;
