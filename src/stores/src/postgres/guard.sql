-- The fence of one table; $…$ marks what is filled in. The trigger is an ordinary (origin) one: rows that arrive by
-- replication are not checked. Its name sorts last, so no other BEFORE trigger changes the shard key after it.
-- SECURITY DEFINER: the application needs no right on the schema multiactive, and has none.
CREATE OR REPLACE FUNCTION multiactive.$guard$() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    admitted boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        admitted := multiactive.admit($keyspace$, multiactive.$slot_function$(NEW.$column$::text));
        RETURN NEW;
    END IF;
    admitted := multiactive.admit($keyspace$, multiactive.$slot_function$(OLD.$column$::text));
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF OLD.$column$ IS DISTINCT FROM NEW.$column$ THEN
        admitted := multiactive.admit($keyspace$, multiactive.$slot_function$(NEW.$column$::text));
    END IF;
    RETURN NEW;
END
$body$;

CREATE OR REPLACE TRIGGER "~multiactive_guard" BEFORE INSERT OR UPDATE OR DELETE ON $table$
FOR EACH ROW EXECUTE FUNCTION multiactive.$guard$();
CREATE OR REPLACE TRIGGER "~multiactive_truncate" BEFORE TRUNCATE ON $table$
FOR EACH STATEMENT EXECUTE FUNCTION multiactive.refuse_truncate();
ALTER TABLE $table$ ENABLE TRIGGER "~multiactive_guard";
ALTER TABLE $table$ ENABLE TRIGGER "~multiactive_truncate";
