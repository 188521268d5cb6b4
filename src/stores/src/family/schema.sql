-- The schema of multiactive in a server of MariaDB or MySQL, which is one member of one store: its log is one. All of it is made and
-- written out of the log (sql_log_bin = 0), but for the rows of `fenced`, `brought`, `beat` and `breach`, which are for every
-- member.
-- Run by `install`, with the rest of its engine behind it; every statement may be repeated. `$log$`: the type of a log's name.

CREATE DATABASE IF NOT EXISTS multiactive CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row: whose server this is, what is installed, and the highest table epoch that was ever asked for here.
-- `begun`: the start of the server that was last met, in words; `started`: the same in seconds, as the server tells it.
-- `brought`: to which table `apply` has brought it since then. `incarnation` and `born`: which database this is, and since
-- when it goes on by itself, which a server of MySQL of another name does anew; told to peers.
CREATE TABLE IF NOT EXISTS multiactive.store (
    one           TINYINT PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    store         VARCHAR(255) NOT NULL,
    unit          VARCHAR(255) NOT NULL,
    definition    LONGTEXT     NOT NULL,
    digest        VARCHAR(16)  NOT NULL DEFAULT '',
    seen_term     INT UNSIGNED NOT NULL DEFAULT 0,
    seen_epoch    BIGINT UNSIGNED NOT NULL DEFAULT 0,
    incarnation   VARCHAR(36)  NOT NULL DEFAULT (UUID()),
    born          VARCHAR(36)  NOT NULL DEFAULT (UUID()),
    opened        BOOL         NOT NULL DEFAULT FALSE,
    begun         VARCHAR(255) NULL,
    started       BIGINT       NULL,
    brought_term  INT UNSIGNED NULL,
    brought_epoch BIGINT UNSIGNED NULL
) ENGINE = InnoDB;

-- The fence: what triggers read, and lock. Nothing else is in the row: writers hold it locked.
CREATE TABLE IF NOT EXISTS multiactive.slot (
    slot SMALLINT UNSIGNED PRIMARY KEY,
    open BOOL NOT NULL DEFAULT FALSE
) ENGINE = InnoDB;

-- What each slot was last brought to: whether it is open, and the newest epoch that said so. After a restart it is closed in
-- `slot` and still open here: so the same epoch opens it again. `closed`: how far the log had come when it was closed last:
-- nothing that was written to it here stands behind that.
CREATE TABLE IF NOT EXISTS multiactive.stamp (
    slot  SMALLINT UNSIGNED PRIMARY KEY,
    open  BOOL            NOT NULL DEFAULT FALSE,
    term  INT UNSIGNED    NOT NULL DEFAULT 0,
    epoch BIGINT UNSIGNED NOT NULL DEFAULT 0,
    closed BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB;

-- Keys that do not follow the keyspace's function.
CREATE TABLE IF NOT EXISTS multiactive.override (
    name VARBINARY(3000) PRIMARY KEY,
    slot SMALLINT UNSIGNED NOT NULL
) ENGINE = InnoDB;

-- In the log: the position vector of each fence that was made for an operation; a repeated call gets the same answer. The
-- row stands in its unit's log after every write that the fence let pass.
CREATE TABLE IF NOT EXISTS multiactive.fenced (
    op     VARCHAR(191)    NOT NULL,
    unit   VARCHAR(191)    NOT NULL,
    term   INT UNSIGNED    NOT NULL,
    epoch  BIGINT UNSIGNED NOT NULL,
    vector LONGTEXT        NOT NULL,
    at     DATETIME(6)     NOT NULL,
    PRIMARY KEY (op, unit, term, epoch)
) ENGINE = InnoDB;

-- In the log: heartbeats, on the clock of who wrote them, in microseconds. Rows are only added, and each server forgets old
-- ones by itself, out of the log: who missed one meets no change of it.
CREATE TABLE IF NOT EXISTS multiactive.beat (
    unit VARCHAR(191) NOT NULL,
    at   BIGINT       NOT NULL,
    PRIMARY KEY (unit, at)
) ENGINE = InnoDB;

-- In the log: this unit's fence was not in place for a while, and was put back. Until a person has compared the rows it is
-- the gap of every link that they may have come by.
CREATE TABLE IF NOT EXISTS multiactive.breach (
    unit  VARCHAR(191) NOT NULL,
    at    BIGINT       NOT NULL,
    words LONGTEXT     NOT NULL,
    PRIMARY KEY (unit, at)
) ENGINE = InnoDB;

-- The operations whose position was reached here: without its record, slots that an operation brings do not open. `lost`: the
-- units that were lost to it, as a list; `vector`: the positions.
CREATE TABLE IF NOT EXISTS multiactive.reached (
    op    VARCHAR(191)    NOT NULL,
    term  INT UNSIGNED    NOT NULL,
    epoch BIGINT UNSIGNED NOT NULL,
    lost  LONGTEXT        NOT NULL,
    vector LONGTEXT       NOT NULL,
    at    DATETIME(6)     NOT NULL,
    PRIMARY KEY (op, term, epoch)
) ENGINE = InnoDB;

-- In the log: an operation brings slots to the unit, which is about to open them. It stands behind all that the unit has of
-- their former owners, and before every write that it lets in. `vector`: how far the logs of those had to be applied, and of
-- units that were lost, `lost`, how far they were.
CREATE TABLE IF NOT EXISTS multiactive.brought (
    op     VARCHAR(191) NOT NULL,
    unit   VARCHAR(191) NOT NULL,
    vector LONGTEXT     NOT NULL,
    lost   LONGTEXT     NOT NULL,
    at     DATETIME(6)  NOT NULL,
    PRIMARY KEY (op, unit)
) ENGINE = InnoDB;

-- The operations of which the owner's rows were copied here, or of which this server had received more than the owner of a
-- unit that was lost (`surplus`): then it has rows that nobody owns, until they were copied.
CREATE TABLE IF NOT EXISTS multiactive.passed (
    op      VARCHAR(191) PRIMARY KEY,
    owner   VARCHAR(191) NOT NULL,
    surplus BOOL         NOT NULL
) ENGINE = InnoDB;

-- What this unit, when it was lost, changed and the new owner of the slot did not get: the row as it was here and there when
-- it was listed, as JSON; null where there was no such row. A person exports it, and empties it when it is of no more use.
CREATE TABLE IF NOT EXISTS multiactive.divergence (
    op        VARCHAR(191) NOT NULL,
    tab       VARCHAR(191) NOT NULL,
    digest    CHAR(32)     NOT NULL,
    name      LONGTEXT     NOT NULL,
    owner     VARCHAR(191) NOT NULL,
    mine      LONGTEXT     NULL,
    theirs    LONGTEXT     NULL,
    committed DATETIME     NOT NULL,
    PRIMARY KEY (op, tab, digest)
) ENGINE = InnoDB;

-- In a store that several units write: the rows that this unit and a peer wrote at the same time, as both were when each had all
-- that the other had written: as JSON, null where there was no such row. `taken`: this unit's became the peer's. `settled` is null
-- as long as nobody has decided; where the rows are equal again without that, it is when that was seen. What was settled 30
-- days ago is removed by us.
CREATE TABLE IF NOT EXISTS multiactive.conflict (
    number  BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    tab     VARCHAR(191) NOT NULL,
    name    LONGTEXT     NOT NULL,
    slot    INT          NOT NULL,
    peer    VARCHAR(191) NOT NULL,
    mine    LONGTEXT     NULL,
    theirs  LONGTEXT     NULL,
    rule    VARCHAR(32)  NOT NULL,
    taken   BOOL         NOT NULL,
    found   DATETIME(6)  NOT NULL,
    settled DATETIME(6)  NULL,
    KEY (settled)
) ENGINE = InnoDB;

-- The owners for whom all of that was listed, and why some of it could not be: after the rows were made equal nobody can list
-- it any more.
CREATE TABLE IF NOT EXISTS multiactive.listed (
    op       VARCHAR(191) NOT NULL,
    owner    VARCHAR(191) NOT NULL,
    unlisted LONGTEXT     NULL,
    at       DATETIME(6)  NOT NULL,
    PRIMARY KEY (op, owner)
) ENGINE = InnoDB;

-- The operations that ever opened slots here.
CREATE TABLE IF NOT EXISTS multiactive.opening (
    op VARCHAR(191) PRIMARY KEY,
    at DATETIME(6)  NOT NULL
) ENGINE = InnoDB;

-- The links into this server that were ever made, and what each was made with; `domain`: the name of the peer's log. `anew`: it goes on at the peer's log as it is
-- then, not where it was; true: what the peer wrote meanwhile was compared. `sound`, where a copy of rows ends the gap: up to
-- that number of the peer's log nothing is missing here. `lacking`: once the peer's own slots were copied, those that it had
-- closed since and whose rows differed here; they are complete once they were copied from who has them open.
CREATE TABLE IF NOT EXISTS multiactive.link (
    from_unit   VARCHAR(191) PRIMARY KEY,
    domain      $log$ NOT NULL,
    incarnation VARCHAR(36)  NOT NULL,
    born        VARCHAR(36)  NOT NULL,
    gap         LONGTEXT     NULL,
    sound       BIGINT UNSIGNED NULL,
    lacking     LONGTEXT     NULL,
    anew        BOOL         NULL,
    made        DATETIME(6)  NOT NULL
) ENGINE = InnoDB;

-- The units of which nothing is taken here since they were lost. `applied`: how far that unit's log was applied when the link
-- stood still; `repaired`: up to where what is missing behind that was brought here otherwise. A row stays when the cut does
-- not stand any more, so that a late call of an older epoch does not cut again.
CREATE TABLE IF NOT EXISTS multiactive.cut (
    from_unit VARCHAR(191)    PRIMARY KEY,
    op        VARCHAR(191)    NOT NULL,
    term      INT UNSIGNED    NOT NULL,
    epoch     BIGINT UNSIGNED NOT NULL,
    stands    BOOL            NOT NULL,
    applied   VARCHAR(64)     NULL,
    repaired  VARCHAR(64)     NULL
) ENGINE = InnoDB;

-- How `install` left each thing that must stay so.
CREATE TABLE IF NOT EXISTS multiactive.placed (
    kind   VARCHAR(32)  NOT NULL,
    object VARCHAR(255) NOT NULL,
    name   VARCHAR(255) NOT NULL,
    words  VARCHAR(255) NOT NULL,
    PRIMARY KEY (kind, object, name)
) ENGINE = InnoDB;

-- How often somebody began to write rows of sharded tables past the log (`past_the_log`; part 1: how often the fence was put in
-- place, before which anybody may have). While he does, he holds the lock `multiactive.unlogged`.
CREATE TABLE IF NOT EXISTS multiactive.unlogged (
    part   TINYINT PRIMARY KEY,
    number BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB;

INSERT IGNORE INTO multiactive.unlogged (part) VALUES (0), (1);

-- Slots whose rows were equal to their owner's in a comparison that began when both logs stood there, and databases and tables had
-- these shapes.
CREATE TABLE IF NOT EXISTS multiactive.found_equal (
    number      BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
    owner       VARCHAR(191) NOT NULL,
    slots       LONGTEXT     NOT NULL,
    here        LONGTEXT     NOT NULL,
    there       LONGTEXT     NOT NULL,
    shape       VARCHAR(191) NOT NULL,
    shape_there VARCHAR(191) NOT NULL,
    at          DATETIME(6)  NOT NULL,
    KEY (owner, number)
) ENGINE = InnoDB;
