-- Rights that the agent's user and the replication user need, and no more. A template for the owner of the server: replace
-- the names, choose passwords, and run it as root, once in each unit. `shop` is the store's database.
-- Not in the log: each unit has its own.
SET SESSION sql_log_bin = 0;

CREATE USER multiactive_agent@'%' IDENTIFIED BY 'change me';
CREATE USER multiactive_replication@'%' IDENTIFIED BY 'change me';

-- The agent makes its schema; triggers on the sharded tables; reads them where rows are compared, and writes them, out of the
-- log, where rows are copied that a link will never bring.
GRANT ALL ON multiactive.* TO multiactive_agent@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON shop.* TO multiactive_agent@'%';
-- A trigger is replaced while nobody uses its table.
GRANT LOCK TABLES ON shop.* TO multiactive_agent@'%';
-- What is local to a unit is kept out of the log, and the server turned read-only; what the fence writes passes then too. A fence
-- lists the sessions that hold it up, and ends them; so does the end of the write lease.
GRANT PROCESS ON *.* TO multiactive_agent@'%';
GRANT SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN, XA_RECOVER_ADMIN ON *.* TO multiactive_agent@'%';
-- Administrators' sessions too, who write though the server is read-only; and what they changed of the fence is put back.
GRANT SYSTEM_USER ON *.* TO multiactive_agent@'%';
GRANT SELECT ON performance_schema.* TO multiactive_agent@'%';
-- The links of this member; RELOAD removes one.
GRANT REPLICATION_SLAVE_ADMIN ON *.* TO multiactive_agent@'%';
GRANT REPLICATION CLIENT, RELOAD ON *.* TO multiactive_agent@'%';
-- What others did not get of this unit where it was lost, and which rows changed since some were compared, is read from its own log.
GRANT REPLICATION SLAVE ON *.* TO multiactive_agent@'%';
-- Who could get past the fence is told from the accounts.
GRANT SELECT ON mysql.* TO multiactive_agent@'%';

-- The replication user reads the log, what a member says of itself to its peers, and rows where some are compared or have to
-- be copied; it changes none. It holds writers up for a moment where rows are compared: LOCK TABLES lets it.
GRANT REPLICATION SLAVE ON *.* TO multiactive_replication@'%';
GRANT SELECT, LOCK TABLES ON multiactive.* TO multiactive_replication@'%';
GRANT SELECT ON shop.* TO multiactive_replication@'%';
