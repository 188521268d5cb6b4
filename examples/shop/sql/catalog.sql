-- The catalog's table, in a database of its own, the same in every unit.
CREATE TABLE IF NOT EXISTS items (
    sku     text PRIMARY KEY,
    version bigint NOT NULL,
    unit    text NOT NULL
);
