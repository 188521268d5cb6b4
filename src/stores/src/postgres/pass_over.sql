-- In appliers only, in a store that several units write: a row that comes with a key that is here already is passed over, where
-- it would stop the link. Which of the two is right is found out later (`settle`). A changed or deleted row that is not here is
-- passed over by PostgreSQL itself. The key's columns are those of the install that made these.
DO $pass_over$
DECLARE
    tab CONSTANT text := $table_text$;
    same text;
    changed text;
BEGIN
    SELECT string_agg(format('t.%1$I = NEW.%1$I', a.attname), ' AND '),
           string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', a.attname), ' OR ')
    INTO same, changed
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = to_regclass(tab) AND i.indisprimary;
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION multiactive.%I() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            -- Whoever deletes it in this moment is waited for.
            PERFORM FROM %s t WHERE %s FOR KEY SHARE;
            IF FOUND THEN
                RETURN NULL;
            END IF;
            RETURN NEW;
        END
        $body$ $function$, $pass_name$, tab, same);
    EXECUTE format('CREATE OR REPLACE TRIGGER "~multiactive_clash_rows" BEFORE INSERT ON %s
                    FOR EACH ROW EXECUTE FUNCTION multiactive.%I()', tab, $pass_name$);
    EXECUTE format('CREATE OR REPLACE TRIGGER "~multiactive_clash_keys" BEFORE UPDATE ON %s
                    FOR EACH ROW WHEN (%s) EXECUTE FUNCTION multiactive.%I()', tab, changed, $pass_name$);
    EXECUTE format('ALTER TABLE %s ENABLE REPLICA TRIGGER "~multiactive_clash_rows"', tab);
    EXECUTE format('ALTER TABLE %s ENABLE REPLICA TRIGGER "~multiactive_clash_keys"', tab);
END
$pass_over$;
