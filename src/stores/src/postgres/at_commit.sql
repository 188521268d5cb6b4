-- The trigger that checks the write lease at commit. Run last, and touching nothing where it is in place: a writer has its
-- table's lock before that of `writing`, and so must have whoever changes triggers of both.
DO $at_commit$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'multiactive.writing'::regclass AND tgname = 'check_lease'
                                            AND tgdeferrable AND tginitdeferred AND tgqual IS NULL AND tgenabled = 'O'
                                            AND tgfoid = 'multiactive.check_lease()'::regprocedure) THEN
        DROP TRIGGER IF EXISTS check_lease ON multiactive.writing;
        CREATE CONSTRAINT TRIGGER check_lease AFTER INSERT ON multiactive.writing DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION multiactive.check_lease();
    END IF;
END
$at_commit$;
