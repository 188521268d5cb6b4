-- What a unit that was lost holds alone. Run by `install` after `cut.sql`; every statement may be repeated. Nothing of it is
-- replicated. A person exports it, such as by \copy (SELECT * FROM multiactive.divergence) TO 'lost.csv' CSV HEADER, and
-- empties it when it is of no more use: nobody here deletes it.

-- A row for each key that the unit changed and the new owner of its slot did not get: as it was here and there when it was
-- listed, as JSON; null where there was no such row.
CREATE TABLE IF NOT EXISTS multiactive.divergence (
    op        text  NOT NULL,
    tab       text  NOT NULL,
    key       jsonb NOT NULL,
    owner     text  NOT NULL,
    mine      jsonb,
    theirs    jsonb,
    committed timestamptz NOT NULL,
    PRIMARY KEY (op, tab, key)
);

-- The owners for whom all of that was listed, and why some of it could not be: after the rows were made equal nobody can
-- list it any more.
CREATE TABLE IF NOT EXISTS multiactive.listed (
    op       text NOT NULL,
    owner    text NOT NULL,
    unlisted text,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (op, owner)
);
