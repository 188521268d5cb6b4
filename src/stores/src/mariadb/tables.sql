-- Facts about one table: :schema its database, :name its name, :column the shard key's column, :insert, :update and :delete
-- our triggers.
SELECT
    IF(t.TABLE_TYPE = 'BASE TABLE', IFNULL(t.ENGINE, ''), t.TABLE_TYPE) AS engine,
    EXISTS (SELECT 1 FROM information_schema.STATISTICS i
            WHERE i.TABLE_SCHEMA = t.TABLE_SCHEMA AND i.TABLE_NAME = t.TABLE_NAME AND i.INDEX_NAME = 'PRIMARY') AS primary_key,
    c.COLUMN_NAME IS NOT NULL AS has_column,
    IFNULL(c.IS_NULLABLE = 'NO', FALSE) AS not_null,
    IFNULL(c.IS_GENERATED <> 'NEVER', FALSE) AS generated,
    IFNULL(c.COLUMN_TYPE, '') AS column_type,
    IFNULL(c.DATA_TYPE IN ('char', 'varchar', 'tinytext', 'text', 'mediumtext', 'longtext', 'tinyint', 'smallint', 'mediumint',
                           'int', 'bigint', 'uuid', 'enum'), FALSE) AS plain_type,
    -- Foreign keys that change rows: what they change fires no trigger.
    IFNULL((SELECT GROUP_CONCAT(CONCAT(f.CONSTRAINT_NAME, ' on ', f.TABLE_NAME) SEPARATOR ', ')
            FROM information_schema.REFERENTIAL_CONSTRAINTS f
            WHERE f.CONSTRAINT_SCHEMA = t.TABLE_SCHEMA AND t.TABLE_NAME IN (f.TABLE_NAME, f.REFERENCED_TABLE_NAME)
              AND (f.DELETE_RULE IN ('CASCADE', 'SET NULL') OR f.UPDATE_RULE IN ('CASCADE', 'SET NULL'))), '') AS acting_keys,
    -- Row triggers that run after ours and could change the key.
    IFNULL((SELECT GROUP_CONCAT(l.TRIGGER_NAME SEPARATOR ', ') FROM information_schema.TRIGGERS l
            JOIN information_schema.TRIGGERS o ON o.EVENT_OBJECT_SCHEMA = l.EVENT_OBJECT_SCHEMA
                 AND o.EVENT_OBJECT_TABLE = l.EVENT_OBJECT_TABLE AND o.EVENT_MANIPULATION = l.EVENT_MANIPULATION
                 AND o.ACTION_TIMING = 'BEFORE' AND o.TRIGGER_NAME IN (:insert, :update, :delete) AND o.ACTION_ORDER < l.ACTION_ORDER
            WHERE l.EVENT_OBJECT_SCHEMA = t.TABLE_SCHEMA AND l.EVENT_OBJECT_TABLE = t.TABLE_NAME
              AND l.ACTION_TIMING = 'BEFORE'), '') AS later_triggers,
    EXISTS (SELECT 1 FROM information_schema.COLUMNS w
            WHERE w.TABLE_SCHEMA = t.TABLE_SCHEMA AND w.TABLE_NAME = t.TABLE_NAME AND w.COLUMN_NAME = :last) AS has_last_write,
    -- What must be unique besides the primary key.
    IFNULL((SELECT GROUP_CONCAT(DISTINCT u.INDEX_NAME SEPARATOR ', ') FROM information_schema.STATISTICS u
            WHERE u.TABLE_SCHEMA = t.TABLE_SCHEMA AND u.TABLE_NAME = t.TABLE_NAME AND u.NON_UNIQUE = 0
              AND u.INDEX_NAME <> 'PRIMARY'), '') AS unique_besides,
    -- Key columns that count by ones: two units hand out the same number.
    IFNULL((SELECT GROUP_CONCAT(k.COLUMN_NAME SEPARATOR ', ') FROM information_schema.COLUMNS k
            WHERE k.TABLE_SCHEMA = t.TABLE_SCHEMA AND k.TABLE_NAME = t.TABLE_NAME AND k.EXTRA LIKE '%auto_increment%'
              AND @@global.auto_increment_increment = 1), '') AS colliding
FROM information_schema.TABLES t
LEFT JOIN information_schema.COLUMNS c
       ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME AND c.COLUMN_NAME = :column
WHERE t.TABLE_SCHEMA = :schema AND t.TABLE_NAME = :name
