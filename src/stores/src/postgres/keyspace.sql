-- The slot of a key: an exact override, or the function. Generated for one keyspace; $…$ marks what is filled in.
-- IMMUTABLE is a promise that PostgreSQL cannot see by itself: convert_to is STABLE because of other encodings than
-- UTF8, the only one that `inspect` accepts.
CREATE OR REPLACE FUNCTION multiactive.$slot_function$(key text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $slot$
BEGIN
    RETURN $expression$;
END
$slot$;

INSERT INTO multiactive.slot (keyspace, slot)
SELECT $keyspace$, s FROM generate_series(0, $slots$ - 1) AS s
ON CONFLICT DO NOTHING;
