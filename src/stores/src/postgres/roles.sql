-- Rights that the agent's user and the replication user need, and no more. A template for the owner of the server:
-- replace the names, choose passwords, and run it in the store's database as a superuser, once in each unit.
-- `shop_owner` owns the sharded tables; the application logs in as `shop_app`, which must not own them: an owner can
-- disable triggers, the fence among them.

-- REPLICATION: what the log keeps back for a peer is read where this unit was lost, to list what the peer did not get.
CREATE ROLE multiactive_agent LOGIN REPLICATION PASSWORD 'change me';
CREATE ROLE multiactive_replication LOGIN REPLICATION PASSWORD 'change me';

-- The agent makes its schema and the publication, and the links of this member. A user that is no superuser makes
-- subscriptions only with a password.
GRANT CREATE, CONNECT ON DATABASE shop TO multiactive_agent;
GRANT pg_create_subscription TO multiactive_agent;
-- Publishing a table, its triggers, and applying rows to it are its owner's rights.
GRANT shop_owner TO multiactive_agent;
-- A fence lists the sessions that hold it up, and ends them. Sessions of superusers it can only list.
GRANT pg_read_all_stats, pg_signal_backend TO multiactive_agent;
-- How far a link has come, and with which connection it was made.
GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO multiactive_agent;
GRANT SELECT (subconninfo) ON pg_subscription TO multiactive_agent;

-- Rows that a link will never bring are copied from another member: written as by a link, past triggers, and not passed on.
GRANT SET ON PARAMETER session_replication_role TO multiactive_agent;
GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text), pg_replication_origin_session_setup(text),
                          pg_replication_origin_advance(text, pg_lsn) TO multiactive_agent;

-- Whose rows others may compare with theirs, and copy. The agent grants this role SELECT on the sharded tables, and on those
-- few of its schema that say which slots are open, and lets it mark a place in the log, note from when on rows count as
-- changed, and ask for a heartbeat, which is all that it may write. Where a sharded table is not in schema public, GRANT USAGE ON SCHEMA … TO multiactive_copy.
-- Where a sharded table has row-level security, the replication user needs BYPASSRLS: rows that it may not see are an error.
CREATE ROLE multiactive_copy NOLOGIN;

-- The replication user reads the log, and rows where some are compared or have to be copied; it changes none.
GRANT multiactive_copy TO multiactive_replication;
GRANT CONNECT ON DATABASE shop TO multiactive_replication;
-- How far a link into this server has come: a peer that was restored from an older state learns from it that it was.
GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO multiactive_replication;
