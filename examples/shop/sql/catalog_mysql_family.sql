-- The catalog's table in MariaDB and MySQL, in a database of its own, the same in every unit.
CREATE TABLE IF NOT EXISTS items (
    sku     VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY,
    version BIGINT NOT NULL,
    unit    VARCHAR(190) NOT NULL
);
