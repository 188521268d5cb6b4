BEGIN
    DECLARE granted BOOL DEFAULT FALSE;
    DECLARE held, micros BIGINT DEFAULT 0;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET granted = FALSE;
    SELECT s.open INTO granted FROM multiactive.slot s WHERE s.slot = $slot$ FOR SHARE;
    IF granted AND NOT @@global.read_only THEN
        SET micros = IF($utc$, CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED), multiactive.clock());
        SELECT w.held INTO held FROM multiactive.wheel w WHERE w.second = (micros DIV 1000000) MOD 4096;
    END IF;
    IF micros >= (held DIV 2097152) * 1000 OR micros < (held DIV 2097152 - held MOD 2097152) * 1000 THEN
        CALL multiactive.refuse($slot$, granted);
    END IF;
END
