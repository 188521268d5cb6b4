-- What the family's schema has besides in MySQL.

-- The logs of which nothing more is taken, behind a number: their units were lost.
CREATE TABLE IF NOT EXISTS multiactive.closed (
    log  VARCHAR(36)     PRIMARY KEY,
    upto BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB;

-- Sets of transactions that count as applied here and are not: this server cannot hand them on. `copied`: their rows are here
-- all the same.
CREATE TABLE IF NOT EXISTS multiactive.passed_over (
    number BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
    gtids  LONGTEXT    NOT NULL,
    copied BOOL        NOT NULL,
    at     DATETIME(6) NOT NULL
) ENGINE = InnoDB;

-- The write lease: `until << 21 | length`, in milliseconds; length 0: ended at `until`; 0: none was ever given. No writer reads
-- it, for one in a serializable transaction would lock it, hold up the renewal, and the unit fence itself.
CREATE TABLE IF NOT EXISTS multiactive.lease (
    one  TINYINT PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    held BIGINT  NOT NULL DEFAULT 0
) ENGINE = InnoDB;

INSERT IGNORE INTO multiactive.lease (one) VALUES (1);

-- The same for writers: in the row of each second in which it is valid, by the clock's second modulo 4096. They read that of the
-- second that is now, which may lock it; a renewal writes those of the seconds to come, and waits for nobody. Row 4096 has it
-- for what is said to who is refused.
CREATE TABLE IF NOT EXISTS multiactive.wheel (
    second SMALLINT UNSIGNED PRIMARY KEY,
    held   BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB;

INSERT /*+ SET_VAR(cte_max_recursion_depth = 5000) */ IGNORE INTO multiactive.wheel (second)
WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 4096) SELECT n FROM n;
