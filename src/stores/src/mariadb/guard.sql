-- The fence of one table, one statement after each `--;`; $…$ marks what is filled in. Rows that arrive by a link fire no
-- trigger. They are made last, so that no other trigger changes the key after them (see `tables`).
--   `admit.sql` lets a write to a slot pass, or has it refused. The share lock comes first: the fencing side waits for its
-- holders to end before it closes a slot, and a locking read sees what was committed last in every isolation level. Then the
-- unit's write lease; the server is read-only before it has begun, and after the lease has ended, also to who may write to a
-- read-only one. All of it stands in the trigger, for a routine of ours costs a row more than the look itself.
--   `unlogged.sql` refuses who writes past the log and has not said so: rows that changed are found by the log.
CREATE OR REPLACE TRIGGER $insert$ BEFORE INSERT ON $table$ FOR EACH ROW
BEGIN
    DECLARE its_slot INT DEFAULT $slot_of_new$;
    $admit_its_slot$;
    $admit_unlogged$;
END
--;
CREATE OR REPLACE TRIGGER $update$ BEFORE UPDATE ON $table$ FOR EACH ROW
BEGIN
    DECLARE its_slot INT DEFAULT $slot_of_old$;
    DECLARE next_slot INT DEFAULT $slot_of_new$;
    $admit_its_slot$;
    IF next_slot <> its_slot THEN
        $admit_next_slot$;
    END IF;
    $admit_unlogged$;
END
--;
CREATE OR REPLACE TRIGGER $delete$ BEFORE DELETE ON $table$ FOR EACH ROW
BEGIN
    DECLARE its_slot INT DEFAULT $slot_of_old$;
    $admit_its_slot$;
    $admit_unlogged$;
END
