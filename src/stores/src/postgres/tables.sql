-- Facts about one table: $1 its schema, $2 its name, $3 the shard key's column, $6 the column that says when a row was written last, $4 and $5 schemas and names of all
-- sharded tables of the store.
SELECT
    c.relkind::text,
    c.relpersistence::text,
    c.relispartition,
    EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid OR h.inhparent = c.oid) AS inherits,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate) AS primary_key,
    c.relreplident::text,
    a.attname IS NOT NULL AS has_column,
    coalesce(a.attnotnull, false) AS not_null,
    coalesce(a.attgenerated <> '', false) AS generated,
    format_type(a.atttypid, NULL) AS column_type,
    coalesce(y.typtype = 'e' OR a.atttypid = ANY (ARRAY['text', 'varchar', 'bpchar', 'int2', 'int4', 'int8', 'uuid']::regtype[]),
             false) AS plain_type,
    -- Foreign keys that change rows, between this table and one that is not sharded with it.
    ARRAY(SELECT format('%s on %s', f.conname, f.conrelid::regclass)
          FROM pg_constraint f
          WHERE f.contype = 'f' AND c.oid IN (f.conrelid, f.confrelid)
            AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))
            AND EXISTS (SELECT FROM pg_class o JOIN pg_namespace m ON m.oid = o.relnamespace
                        WHERE o.oid IN (f.conrelid, f.confrelid)
                          AND NOT EXISTS (SELECT FROM unnest($4::text[], $5::text[]) AS t(s, n)
                                          WHERE t.s = m.nspname AND t.n = o.relname))) AS acting_keys,
    -- Row triggers that would run after ours and could change the key.
    ARRAY(SELECT t.tgname::text FROM pg_trigger t
          WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0
            AND t.tgname::text COLLATE "C" > '~multiactive_guard') AS later_triggers,
    EXISTS (SELECT FROM pg_attribute l WHERE l.attrelid = c.oid AND l.attname = $6 AND l.attnum > 0 AND NOT l.attisdropped) AS has_last_write,
    -- What must be unique besides the primary key.
    ARRAY(SELECT i.indexrelid::regclass::text FROM pg_index i
          WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary) AS unique_besides,
    pg_has_role(c.relowner, 'USAGE') AS ours,
    pg_get_userbyid(c.relowner)::text AS owner,
    -- Users of the owner's rights, ourselves and superusers apart: each could switch the fence off.
    ARRAY(SELECT r.rolname::text FROM pg_roles r
          WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> current_user
            AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS bypassers,
    -- Key columns that count by ones from a sequence: two units hand out the same number.
    ARRAY(SELECT k.attname::text FROM pg_index i
          JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = ANY (i.indkey)
          JOIN pg_sequence q ON q.seqrelid = pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), k.attname)::regclass
          WHERE i.indrelid = c.oid AND i.indisprimary AND q.seqincrement = 1) AS colliding
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_type y ON y.oid = a.atttypid
WHERE n.nspname = $1 AND c.relname = $2
