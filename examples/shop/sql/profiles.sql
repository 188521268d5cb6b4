-- The table of profiles, in a database of its own, the same in every unit.
CREATE TABLE IF NOT EXISTS profiles (
    user_id    text PRIMARY KEY,
    name       text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
