-- The fence of one table; $…$ marks what is filled in. The triggers are ordinary (origin) ones: rows that arrive by
-- replication are not checked. SECURITY DEFINER: the application needs no right on the schema multiactive, and has none.

-- Changed and deleted rows are checked one by one, before the change: the old slot, and the new one where it differs.
-- The trigger's name sorts last, so no other BEFORE trigger changes the shard key after it.
CREATE OR REPLACE FUNCTION multiactive.$guard$() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    admitted boolean;
BEGIN
    admitted := multiactive.admit($keyspace$, multiactive.$slot_function$($old_key$));
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF $old_key$ IS DISTINCT FROM $new_key$ THEN
        admitted := multiactive.admit($keyspace$, multiactive.$slot_function$($new_key$));
    END IF;
    RETURN NEW;
END
$body$;

-- Inserted rows are checked at the end of their statement, each slot once: a bulk load pays for its slots, not for its
-- rows. It is as safe: the lock is taken and the slot read before the transaction can commit, and a refusal undoes the
-- statement. A statement that inserts nothing (ON CONFLICT DO NOTHING) is not refused.
CREATE OR REPLACE FUNCTION multiactive.$guard_inserts$() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    slots integer[] := ARRAY(SELECT DISTINCT multiactive.$slot_function$($inserted_key$) FROM multiactive_inserted n);
    doubtful integer;
    admitted boolean;
BEGIN
    IF cardinality(slots) = 0 THEN
        RETURN NULL;
    END IF;
    -- All at once where a plain read is right, locks first, as `admit` does it; what is not open goes there and fails.
    IF cardinality(slots) > 1 AND current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM pg_advisory_xact_lock_shared(27969, b)
        FROM (SELECT DISTINCT s % 64 AS b FROM unnest(slots) s ORDER BY 1) buckets;
        slots := ARRAY(
            SELECT w FROM unnest(slots) w LEFT JOIN multiactive.slot s ON s.keyspace = $keyspace$ AND s.slot = w
            WHERE (s.open AND s.server_start = pg_postmaster_start_time()) IS NOT TRUE ORDER BY w);
    END IF;
    FOREACH doubtful IN ARRAY slots LOOP
        admitted := multiactive.admit($keyspace$, doubtful);
    END LOOP;
    IF admitted IS NULL THEN
        admitted := multiactive.in_lease();
    END IF;
    -- And once more at commit.
    INSERT INTO multiactive.writing DEFAULT VALUES;
    RETURN NULL;
END
$body$;

CREATE OR REPLACE TRIGGER "~multiactive_guard" BEFORE UPDATE OR DELETE ON $table$
FOR EACH ROW EXECUTE FUNCTION multiactive.$guard$();
CREATE OR REPLACE TRIGGER "~multiactive_inserts" AFTER INSERT ON $table$
REFERENCING NEW TABLE AS multiactive_inserted FOR EACH STATEMENT EXECUTE FUNCTION multiactive.$guard_inserts$();
-- Whoever changed or deleted rows meets the lease again at commit; so does who would have, and found none.
CREATE OR REPLACE TRIGGER "~multiactive_changes" AFTER UPDATE OR DELETE ON $table$
FOR EACH STATEMENT EXECUTE FUNCTION multiactive.arm();
CREATE OR REPLACE TRIGGER "~multiactive_truncate" BEFORE TRUNCATE ON $table$
FOR EACH STATEMENT EXECUTE FUNCTION multiactive.refuse_truncate();
ALTER TABLE $table$ ENABLE TRIGGER "~multiactive_guard";
ALTER TABLE $table$ ENABLE TRIGGER "~multiactive_inserts";
ALTER TABLE $table$ ENABLE TRIGGER "~multiactive_changes";
ALTER TABLE $table$ ENABLE TRIGGER "~multiactive_truncate";
