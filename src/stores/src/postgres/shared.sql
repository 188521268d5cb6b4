-- What a store has besides that several units write at the same time. Run by `install` after the fence; every statement may be
-- repeated. Nothing of it is replicated.

-- The rows that this unit and a peer wrote at the same time, as both were when each had all that the other had written: as JSON,
-- null where there was no such row. `taken`: this unit's became the peer's. `settled` is null as long as nobody has decided;
-- where the rows are equal again without that, it is when that was seen. What was settled 30 days ago is removed by us.
CREATE TABLE IF NOT EXISTS multiactive.conflict (
    number  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tab     text        NOT NULL,
    key     jsonb       NOT NULL,
    slot    integer     NOT NULL,
    peer    text        NOT NULL,
    mine    jsonb,
    theirs  jsonb,
    rule    text        NOT NULL,
    taken   boolean     NOT NULL,
    found   timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled timestamptz
);
CREATE INDEX IF NOT EXISTS conflict_open ON multiactive.conflict (tab, key) WHERE settled IS NULL;
