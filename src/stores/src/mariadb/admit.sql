BEGIN
    DECLARE granted BOOL DEFAULT FALSE;
    DECLARE held, micros BIGINT DEFAULT 0;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET granted = FALSE;
    SELECT s.open INTO granted FROM multiactive.slot s WHERE s.slot = $slot$ LOCK IN SHARE MODE;
    IF granted AND NOT @@global.read_only THEN
        SET held = (SELECT l.next_not_cached_value FROM multiactive.lease l);
        SET micros = IF($utc$, CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS INTEGER), multiactive.clock());
    END IF;
    IF micros >= (held DIV 2097152) * 1000 OR micros < (held DIV 2097152 - held MOD 2097152) * 1000 THEN
        CALL multiactive.refuse($slot$, granted);
    END IF;
END
