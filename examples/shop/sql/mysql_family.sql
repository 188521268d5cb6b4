-- The shop's table in MariaDB and MySQL, the same in every unit. The slot of a row is computed from user_id.
CREATE TABLE IF NOT EXISTS orders (
    id       VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY,
    user_id  VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    seq      BIGINT NOT NULL,
    prev     BIGINT NOT NULL,
    unit     VARCHAR(190) NOT NULL,
    taken_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    KEY orders_by_user (user_id, seq)
);
