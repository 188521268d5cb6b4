-- The shop's table, the same in every unit. The slot of a row is computed from user_id.
CREATE TABLE IF NOT EXISTS orders (
    id       text PRIMARY KEY,
    user_id  text NOT NULL,
    seq      bigint NOT NULL,
    prev     bigint NOT NULL,
    unit     text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, seq);
