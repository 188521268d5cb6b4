-- What the family's schema has besides in MariaDB.

-- The write lease: `until << 21 | length`, in milliseconds; length 0: ended at `until`; 0: none was ever given. In a
-- sequence, because what is set there is seen at once in every isolation level and waits for nobody: in a row a writer's
-- share lock would block the renewal, and the unit fence itself. A sequence goes only forward, but for its round, which
-- grows with every change.
CREATE SEQUENCE IF NOT EXISTS multiactive.lease START WITH 0 MINVALUE 0 MAXVALUE 9223372036854775806 NOCACHE CYCLE;
