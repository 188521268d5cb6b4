//! Sessions with one server: a few are kept, each call has a limit of time, and one that failed is thrown away, so that
//! a transaction that was under way ends with it.
//!
//! A call that is given up is ended at the server too: else a fence that waits for a lock would go on waiting, with the locks
//! that it has. The server does not notice by itself that nobody is there any more while a statement waits: so no statement of
//! ours waits for a row for more than a second, and who has to wait longer asks again. Nor does it notice one who says nothing
//! in the midst of a transaction: so that ends by itself, with the locks that it has, after some seconds.

use super::dialect::{Dialect, Kind};
use crate::access::Access;
use crate::error::Error;
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, SslOpts, Value};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::timeout;

/// How many sessions are kept for the next verb.
const KEPT: usize = 4;

/// How many rows are inserted at once.
const BATCH: usize = 200;

/// How long a verb waits for an answer, where it has no limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Whether what a session writes is for this server alone, or for its log and with it for every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Local,
    Logged,
    /// At a peer, where we only read.
    None,
}

/// A server, and the sessions that are kept with it.
pub(crate) struct Server {
    pub(crate) dialect: &'static Dialect,
    opts: Opts,
    pub(crate) at: String,
    kept: Mutex<Vec<(Writes, Conn)>>,
}

impl Server {
    pub(crate) fn new(dialect: &'static Dialect, access: &Access) -> Self {
        let opts = OptsBuilder::default()
            .ip_or_hostname(&access.host)
            .tcp_port(access.port)
            .user(Some(&access.user))
            .pass(Some(&access.password))
            .prefer_socket(false)
            .ssl_opts(access.tls.as_ref().map(|tls| {
                let ca = tls.ca.clone().into_bytes();
                SslOpts::default()
                    .with_root_certs(vec![ca.into()])
                    .with_disable_built_in_roots(true)
            }))
            .tcp_keepalive(Some(Duration::from_secs(10)))
            .setup(vec![
                dialect.setup,
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            ]);
        Self {
            dialect,
            opts: opts.into(),
            at: format!("{}:{}/{}", access.host, access.port, access.database),
            kept: Mutex::default(),
        }
    }

    /// A session whose writes stay here.
    pub(crate) async fn session(&self) -> Result<Session<'_>, Error> {
        self.open(Writes::Local).await
    }

    /// A session whose writes every member gets.
    pub(crate) async fn logged(&self) -> Result<Session<'_>, Error> {
        self.open(Writes::Logged).await
    }

    /// A session that only reads, at a peer.
    pub(crate) async fn foreign(&self) -> Result<Session<'_>, Error> {
        self.open(Writes::None).await
    }

    async fn open(&self, writes: Writes) -> Result<Session<'_>, Error> {
        let mut conn = None;
        // One that broke since, or whose server has restarted, shows only when it is asked something.
        while let (None, Some(mut kept)) = (&conn, self.take(writes)) {
            if let Ok(Ok(())) = timeout(PATIENCE, kept.ping()).await {
                conn = Some(kept);
            }
        }
        let conn = match conn {
            Some(conn) => conn,
            None => self.connect(writes).await?,
        };
        Ok(Session {
            conn: Some(conn),
            writes,
            server: self,
            limit: PATIENCE,
            busy: false,
        })
    }

    /// A connection that is no session: for who reads the log.
    pub(crate) async fn raw(&self) -> Result<Conn, mysql_async::Error> {
        Conn::new(self.opts.clone()).await
    }

    fn take(&self, writes: Writes) -> Option<Conn> {
        let mut kept = self.kept.lock().ok()?;
        let at = kept.iter().position(|(is, _)| *is == writes)?;
        Some(kept.swap_remove(at).1)
    }

    async fn connect(&self, writes: Writes) -> Result<Conn, Error> {
        let failed = |source| Error::Connect {
            at: self.at.clone(),
            source,
        };
        let connect = async {
            let mut conn = Conn::new(self.opts.clone()).await?;
            if writes == Writes::Local {
                conn.query_drop("SET SESSION sql_log_bin = 0").await?;
            }
            Ok(conn)
        };
        timeout(PATIENCE, connect)
            .await
            .map_err(|late| failed(Box::new(late)))?
            .map_err(|source: mysql_async::Error| failed(Box::new(source)))
    }
}

/// One session. Dropped without [`Session::keep`], it is closed.
pub(crate) struct Session<'a> {
    /// Taken only when the session ends.
    conn: Option<Conn>,
    writes: Writes,
    server: &'a Server,
    limit: Duration,
    /// Whether a call has begun and not ended.
    busy: bool,
}

/// Dropped while a call is under way, it has the server give that up, and with it the transaction.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        let (true, Some(conn)) = (self.busy, self.conn.as_ref()) else {
            return;
        };
        let (id, opts) = (conn.id(), self.server.opts.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A server that does not answer gives it up by itself: no statement of ours waits long.
                let end = async {
                    let mut other = Conn::new(opts).await?;
                    other.query_drop(format!("KILL CONNECTION {id}")).await?;
                    other.disconnect().await
                };
                let _ = timeout(PATIENCE, end).await;
            });
        }
    }
}

impl<'a> Session<'a> {
    /// Another session with the same server.
    pub(crate) async fn beside(&self) -> Result<Session<'a>, Error> {
        let (server, writes) = (self.server, self.writes);
        server.open(writes).await
    }
}

impl Session<'_> {
    /// The longest time that each later call may take.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The words of its engine.
    pub(crate) fn dialect(&self) -> &'static Dialect {
        self.server.dialect
    }

    /// Which engine it is.
    pub(crate) fn kind(&self) -> Kind {
        self.server.dialect.kind
    }

    /// The server's number for it.
    pub(crate) fn id(&self) -> u32 {
        self.conn.as_ref().map_or(0, Conn::id)
    }

    /// Hands the session back: nothing of ours is under way in it.
    pub(crate) fn keep(mut self) {
        if let (Some(conn), Ok(mut kept)) = (self.conn.take(), self.server.kept.lock())
            && kept.len() < KEPT
        {
            kept.push((self.writes, conn));
        }
    }

    /// All rows of a query.
    pub(crate) async fn rows<T: FromRow + Send + 'static>(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<Vec<T>, Error> {
        let (params, limit) = (params.into(), self.limit);
        let answer = timeout(limit, self.begin(doing)?.exec(sql, params)).await;
        self.end(doing, answer)
    }

    /// The first row of a query that has at least one; none is [`Error::NotInstalled`].
    pub(crate) async fn row<T: FromRow + Send + 'static>(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<T, Error> {
        let first = self.rows(doing, sql, params).await?.into_iter().next();
        first.ok_or_else(|| Error::NotInstalled {
            at: self.server.at.clone(),
        })
    }

    /// Hands the rows of a query to another session, which inserts them by the statement that begins with `into`; none of them
    /// is kept in memory for long.
    pub(crate) async fn pour(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
        other: &mut Session<'_>,
        into: &str,
    ) -> Result<(), Error> {
        let (params, limit) = (params.into(), self.limit);
        let conn = self.begin(doing)?;
        let pouring = async {
            let mut rows = match conn.exec_iter(sql, params).await {
                Ok(rows) => rows,
                Err(source) => return Ok(Err(source)),
            };
            let mut batch: Vec<Value> = Vec::new();
            let mut count = 0;
            loop {
                let row = match rows.next().await {
                    Ok(row) => row,
                    Err(source) => return Ok(Err(source)),
                };
                let ended = row.is_none();
                if let Some(row) = row {
                    batch.extend(row.unwrap());
                    count += 1;
                }
                if count > 0 && (ended || count == BATCH) {
                    let width = batch.len() / count;
                    let one = format!("({})", vec!["?"; width].join(", "));
                    let insert = format!("{into}{}", vec![one; count].join(", "));
                    other
                        .change(doing, &insert, Params::Positional(std::mem::take(&mut batch)))
                        .await?;
                    count = 0;
                }
                if ended {
                    return Ok(Ok(()));
                }
            }
        };
        match timeout(limit, pouring).await {
            Ok(Ok(answer)) => self.end(doing, Ok(answer)),
            Ok(Err(error)) => Err(error),
            Err(late) => self.end(doing, Err(late)),
        }
    }

    /// How many rows a statement changed.
    pub(crate) async fn change(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<u64, Error> {
        let (params, limit) = (params.into(), self.limit);
        let answer = timeout(limit, self.begin(doing)?.exec_drop(sql, params)).await;
        self.end(doing, answer)?;
        Ok(self.conn.as_ref().map_or(0, |conn| conn.affected_rows()))
    }

    /// One statement, or several, without parameters.
    pub(crate) async fn batch(&mut self, doing: &'static str, sql: &str) -> Result<(), Error> {
        let limit = self.limit;
        let (begins, follows) = self.server.dialect.transaction;
        let sql = match sql {
            "START TRANSACTION" => begins.to_owned(),
            "COMMIT" | "ROLLBACK" => format!("{sql}{follows}"),
            other => other.to_owned(),
        };
        let answer = timeout(limit, self.begin(doing)?.query_drop(sql)).await;
        self.end(doing, answer)
    }

    /// The rows of a statement that cannot be prepared.
    pub(crate) async fn told<T: FromRow + Send + 'static>(
        &mut self,
        doing: &'static str,
        sql: &str,
    ) -> Result<Vec<T>, Error> {
        let limit = self.limit;
        let answer = timeout(limit, self.begin(doing)?.query(sql)).await;
        self.end(doing, answer)
    }

    /// That something did not happen in time.
    pub(crate) fn late(&self, doing: &'static str, after: Duration) -> Error {
        Error::TimedOut {
            doing,
            at: self.server.at.clone(),
            after,
        }
    }

    fn begin(&mut self, doing: &'static str) -> Result<&mut Conn, Error> {
        let late = self.late(doing, Duration::ZERO);
        self.busy = true;
        self.conn.as_mut().ok_or(late)
    }

    fn end<T>(
        &mut self,
        doing: &'static str,
        answer: Result<Result<T, mysql_async::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Error> {
        self.busy = answer.is_err();
        match answer {
            Ok(answer) => answer.map_err(|source| failed(doing, self.server.at.clone(), source)),
            Err(_) => Err(self.late(doing, self.limit)),
        }
    }
}

/// What a failure says, and of what.
fn failed(doing: &'static str, at: String, source: mysql_async::Error) -> Error {
    let code = code(&source);
    let source = Box::new(source);
    match code {
        // The session was ended, or the server is going down: that says nothing about the statement.
        None | Some(1053 | 1077 | 1927 | 3169 | 4031) => Error::Connect { at, source },
        // Our schema, or something in it, is not there.
        Some(1049 | 1146 | 1305) if !doing.starts_with("checking") => Error::NotInstalled { at },
        Some(_) => Error::Query { doing, at, source },
    }
}

fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        mysql_async::Error::Driver(_)
        | mysql_async::Error::Io(_)
        | mysql_async::Error::Other(_)
        | mysql_async::Error::Url(_) => None,
    }
}

/// The server's number for a refusal; `None` where the error is none.
pub(crate) fn refusal(error: &Error) -> Option<u16> {
    error
        .said_by_server()?
        .downcast_ref::<mysql_async::Error>()
        .and_then(code)
}
