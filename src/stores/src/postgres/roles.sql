-- Rights that the agent's user and the replication user need, and no more. A template for the owner of the server:
-- replace the names, choose passwords, and run it in the store's database as a superuser, once in each unit.
-- `shop_owner` owns the sharded tables; the application logs in as `shop_app`, which must not own them: an owner can
-- disable triggers, the fence among them.

CREATE ROLE multiactive_agent LOGIN PASSWORD 'change me';
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

-- The replication user reads the log; it needs no right on any table, nor on the schema multiactive.
GRANT CONNECT ON DATABASE shop TO multiactive_replication;
-- How far a link into this server has come: a peer that was restored from an older state learns from it that it was.
GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO multiactive_replication;
