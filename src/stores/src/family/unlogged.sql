IF NOT (@@session.sql_log_bin AND @@global.log_bin) THEN
        IF NOT (IS_USED_LOCK('multiactive.unlogged') <=> CONNECTION_ID()) THEN
            SIGNAL SQLSTATE 'MA006' SET MYSQL_ERRNO = 30006,
                MESSAGE_TEXT = 'no log would have this write: log it (sql_log_bin), or CALL multiactive.past_the_log() first';
        END IF;
    END IF
