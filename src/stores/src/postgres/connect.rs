//! Sessions with one server: a few are kept, each call has a limit of time, and one that failed is thrown away, so that
//! a transaction that was under way ends with it.
//!
//! A call that is given up (its time is over, or whoever waits for it is dropped) is cancelled at the server too: else a
//! fence that waits for a lock would go on waiting, with the locks that it has, and every writer would queue behind it.
//! Where the whole program dies, the server itself notices within half a second that nobody is there any more.

pub use crate::access::Access;
use crate::error::Error;
use futures::SinkExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Client, Config, Connection, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How many sessions are kept for the next verb.
const KEPT: usize = 4;

/// How long a verb waits for an answer, where it has no limit of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What is being done where a link is made, or given the tables that its peer publishes.
pub(super) const MAKING: &str = "making a link";
pub(super) const ADDING: &str = "adding tables to a link";

/// A server, and the sessions that are kept with it.
pub(super) struct Server {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pub(super) at: String,
    kept: Mutex<Vec<Open>>,
}

/// The release of a server, as it told when we connected: 16, 17, 18; 0 where it told none.
type Release = u32;

/// A connection and the statements that were prepared in it: preparing costs a round trip of its own.
struct Open {
    client: Client,
    release: Release,
    tls: Option<MakeRustlsConnect>,
    prepared: Mutex<HashMap<String, Statement>>,
    /// Whether a call has begun and not ended.
    busy: AtomicBool,
}

/// Dropped while a call is under way, it has the server give that up; then the session ends, and its transaction.
impl Drop for Open {
    fn drop(&mut self) {
        if !self.busy.load(Ordering::Relaxed) {
            return;
        }
        let (token, tls) = (self.client.cancel_token(), self.tls.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A server that does not answer sees to it by itself, once it notices that nobody is connected.
                let _ = timeout(PATIENCE, cancel(token, tls)).await;
            });
        }
    }
}

impl Server {
    pub(super) fn new(access: &Access) -> Self {
        let mut config = Config::new();
        config
            .host(&access.host)
            .port(access.port)
            .dbname(&access.database)
            .user(&access.user)
            .password(&access.password)
            .application_name("multiactive")
            .ssl_mode(match access.tls {
                Some(_) => SslMode::Require,
                None => SslMode::Disable,
            })
            .connect_timeout(PATIENCE)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(PATIENCE * 2)
            // Rows that a policy would hide are an error, never left out: what is compared, copied and removed must be all.
            // What text looks like must not depend on the server's settings: checksums are taken of it. And what we
            // say that we did must survive a crash.
            .options(
                "-c search_path=pg_catalog -c synchronous_commit=on -c statement_timeout=30s -c lock_timeout=4s \
                 -c client_connection_check_interval=500ms \
                 -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 \
                 -c datestyle=ISO,YMD -c intervalstyle=postgres -c timezone=UTC -c extra_float_digits=1 \
                 -c bytea_output=hex -c standard_conforming_strings=on -c client_min_messages=warning \
                 -c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off \
                 -c row_security=off",
            );
        let at = format!("{}:{}/{}", access.host, access.port, access.database);
        Self {
            config,
            tls: access.tls.as_ref().map(|tls| MakeRustlsConnect::new(tls.client())),
            at,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// A session, kept or new.
    pub(super) async fn session(&self) -> Result<Session<'_>, Error> {
        let kept = self
            .kept
            .lock()
            .ok()
            .and_then(|mut kept| kept.pop())
            .filter(|open| !open.client.is_closed());
        let open = match kept {
            Some(open) => open,
            None => {
                let (client, release) = self.connect().await?;
                Open {
                    client,
                    release,
                    tls: self.tls.clone(),
                    prepared: Mutex::default(),
                    busy: AtomicBool::new(false),
                }
            }
        };
        Ok(Session {
            open,
            server: self,
            limit: PATIENCE,
        })
    }

    async fn connect(&self) -> Result<(Client, Release), Error> {
        let failed = |source| Error::Connect {
            at: self.at.clone(),
            source,
        };
        // On the heap: a handshake is large, and would be a part of every verb's future, and of the stack of whoever polls it.
        let connect = Box::pin(async {
            match &self.tls {
                None => self.config.connect(NoTls).await.map(run),
                Some(tls) => self.config.connect(tls.clone()).await.map(run),
            }
        });
        timeout(PATIENCE, connect)
            .await
            .map_err(|late| failed(Box::new(late)))?
            .map_err(|source| failed(Box::new(source)))
    }
}

/// Lets a connection go on by itself: it ends when the client is dropped; what breaks it shows in the client's next call.
fn run<S, T>((client, connection): (Client, Connection<S, T>)) -> (Client, Release)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let release = connection.parameter("server_version").and_then(|version| {
        let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
        version[..digits].parse().ok()
    });
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "session with a store ended");
        }
    });
    (client, release.unwrap_or_default())
}

async fn cancel(token: CancelToken, tls: Option<MakeRustlsConnect>) -> Result<(), tokio_postgres::Error> {
    match tls {
        None => token.cancel_query(NoTls).await,
        Some(tls) => token.cancel_query(tls).await,
    }
}

/// One session. Dropped without [`Session::keep`], it is closed.
pub(super) struct Session<'a> {
    open: Open,
    server: &'a Server,
    limit: Duration,
}

impl Session<'_> {
    /// The longest time that each later call may take.
    pub(super) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Whether the server is of this release or a newer one.
    pub(super) fn is_since(&self, release: Release) -> bool {
        self.open.release >= release
    }

    /// Hands the session back: nothing of ours is under way in it.
    pub(super) fn keep(self) {
        if let Ok(mut kept) = self.server.kept.lock()
            && kept.len() < KEPT
        {
            kept.push(self.open);
        }
    }

    /// All rows of a query.
    pub(super) async fn rows(
        &self,
        doing: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.timed(doing, async {
            let statement = self.prepared(sql).await?;
            self.open.client.query(&statement, params).await
        })
        .await
    }

    /// The first row of a query that has at least one; none is [`Error::NotInstalled`].
    pub(super) async fn row(
        &self,
        doing: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Error> {
        let first = self.rows(doing, sql, params).await?.into_iter().next();
        first.ok_or_else(|| Error::NotInstalled {
            at: self.server.at.clone(),
        })
    }

    /// How many rows a statement changed.
    pub(super) async fn change(
        &self,
        doing: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        self.timed(doing, async {
            let statement = self.prepared(sql).await?;
            self.open.client.execute(&statement, params).await
        })
        .await
    }

    /// Statements without parameters, one after the other.
    pub(super) async fn batch(&self, doing: &'static str, sql: &str) -> Result<(), Error> {
        self.timed(doing, self.open.client.batch_execute(sql)).await
    }

    /// Prepares a statement, so that a later call of it is one round trip.
    pub(super) async fn prepare(&self, doing: &'static str, sql: &str) -> Result<(), Error> {
        self.timed(doing, self.prepared(sql)).await.map(drop)
    }

    /// Passes what `COPY … TO STDOUT` in another session gives on to `COPY … FROM STDIN` in this one, as it comes; how many
    /// rows.
    pub(super) async fn copy(
        &self,
        doing: &'static str,
        into: &str,
        from: &Session<'_>,
        out: &str,
    ) -> Result<u64, Error> {
        let rows = async {
            let sink = self.open.client.copy_in(into).await?;
            let rows = from.open.client.copy_out(out).await?;
            let (mut sink, mut rows) = (std::pin::pin!(sink), std::pin::pin!(rows));
            sink.send_all(&mut rows).await?;
            sink.finish().await
        };
        from.open.busy.store(true, Ordering::Relaxed);
        let copied = self.timed(doing, rows).await;
        from.open.busy.store(copied.is_err(), Ordering::Relaxed);
        copied
    }

    /// The statement, prepared once a session. A session whose statement fails is not kept, so a stale one goes with it.
    async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = || self.open.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = known().get(sql).cloned() {
            return Ok(statement);
        }
        let statement = self.open.client.prepare(sql).await?;
        known().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// That something did not happen in time.
    pub(super) fn late(&self, doing: &'static str, after: Duration) -> Error {
        Error::TimedOut {
            doing,
            at: self.server.at.clone(),
            after,
        }
    }

    async fn timed<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let at = || self.server.at.clone();
        self.open.busy.store(true, Ordering::Relaxed);
        let answer = timeout(self.limit, call).await;
        self.open.busy.store(answer.is_err(), Ordering::Relaxed);
        let answer = answer.map_err(|_| Error::TimedOut {
            doing,
            at: at(),
            after: self.limit,
        })?;
        answer.map_err(
            |source| match source.code().map(tokio_postgres::error::SqlState::code) {
                // The session broke, or the server is going down or coming up: that says nothing about the statement.
                None | Some("57P01" | "57P02" | "57P03") => Error::Connect {
                    at: at(),
                    source: Box::new(source),
                },
                // Our schema, or a table in it, is not there. Of a link it is a table that the peer publishes.
                Some("3F000" | "42P01") if !(doing.starts_with("checking") || [MAKING, ADDING].contains(&doing)) => {
                    Error::NotInstalled { at: at() }
                }
                Some(_) => Error::Query {
                    doing,
                    at: at(),
                    source: Box::new(source),
                },
            },
        )
    }
}
