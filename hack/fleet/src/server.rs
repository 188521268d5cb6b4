//! A server of MariaDB or MySQL of its own: data folder, port and password, made to be a member of a mesh, and fenced when it
//! starts. This is what the two have in common; [`crate::mariadb`] and [`crate::mysql`] say how each is made and started.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::certs::{self, Pair};
use crate::files::copy;
use crate::held::{Held, bring_back};
use crate::process::{Process, Spec, log_tail};
use crate::tools::{self, Tool};
use crate::{Error, Result, clock, janitor, ports};

/// How a server is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it keeps everything, removed when the server is dropped. A temporary folder when `None`, removed also
    /// when our process is killed.
    pub dir: Option<PathBuf>,
    /// The password of `root`.
    pub password: String,
    /// Whether commits are durable: `false` is faster, and only a crash of the machine can tell.
    pub fsync: bool,
    /// The port; a free one when `None`.
    pub port: Option<u16>,
    /// Its `server_id`, `gtid_domain_id` (MariaDB) and `auto_increment_offset`, which no two members may share; the next
    /// number of this process when `None`.
    pub number: Option<u32>,
    /// By what it proves who it is, to whoever wants to speak with it in secret; without it nobody can.
    pub proof: Option<Pair>,
    /// Whether its clock can be set while it runs: [`Server::set_clock`]. Of MariaDB alone.
    pub clock: bool,
    /// More settings, which win over ours; one without a value is `""`.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            dir: None,
            password: "multiactive".into(),
            fsync: false,
            port: None,
            number: None,
            proof: None,
            clock: false,
            settings: Vec::new(),
        }
    }
}

/// One of the two, as far as it differs from the other.
pub trait Engine: Debug + Send + Sync + Sized + 'static {
    /// Its name, as people write it.
    const NAME: &'static str;
    /// Its server.
    const TOOL: Tool;

    /// Where it lies when its commits need not be durable, instead of in the system's temporary folder: of an engine that cannot
    /// be told to wait for no disk.
    const FAST: Option<&'static str>;

    /// Makes the data folder, with `root` and nobody else.
    fn initialise(server: &Server<Self>) -> impl Future<Output = Result<()>> + Send;

    /// The server's process, with these settings.
    fn process(server: &Server<Self>) -> Spec;

    /// What is to be done before it starts.
    fn starts(server: &Server<Self>);

    /// What is to be done once it accepts connections.
    fn started(server: &Server<Self>);
}

/// A server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Server<E> {
    pub(crate) dir: PathBuf,
    /// The folder `usr` of the unpacked packages.
    pub(crate) base: PathBuf,
    pub(crate) options: Options,
    port: u16,
    number: u32,
    server: Held,
    engine: PhantomData<E>,
}

const START_LIMIT: Duration = Duration::from_secs(60);

/// What the log says when it accepts connections.
const READY: &str = "ready for connections";

/// The number of the next server.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl<E: Engine> Server<E> {
    /// Makes a server and starts it; returns when it accepts connections. It is read-only.
    ///
    /// # Errors
    ///
    /// Where the engine cannot be had, initialised or started.
    pub async fn start(options: Options) -> Result<Self> {
        let program = tokio::task::spawn_blocking(|| tools::ensure(E::TOOL))
            .await
            .map_err(|error| Error::Refused(format!("preparing {} was interrupted: {error}", E::NAME)))??;
        let fast = E::FAST.filter(|fast| !options.fsync && has_room(fast));
        let parent = fast.map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = folder(options.dir.as_deref(), &parent, E::NAME)?;
        if options.dir.is_none() {
            janitor::remember(&dir);
        }
        let made = Self {
            dir,
            base: program.ancestors().nth(2).unwrap_or(&program).to_path_buf(),
            port: options.port.map_or_else(ports::free, Ok)?,
            number: options.number.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed)),
            options,
            server: Held::default(),
            engine: PhantomData,
        };
        if let Some(proof) = &made.options.proof {
            made.proves(proof)?;
        }
        if made.options.clock {
            clock::furnish(&made.dir).await?;
        }
        let temporary = made.temporary();
        std::fs::create_dir_all(&temporary).map_err(Error::io("creating", &temporary))?;
        E::initialise(&made).await?;
        made.launch().await?;
        Ok(made)
    }

    /// `mysql://…` for `user` and `database`, with this server's password: give users of tests the same one.
    pub fn url(&self, user: &str, database: &str) -> String {
        let encoded = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        format!(
            "mysql://{}:{}@127.0.0.1:{}/{database}",
            encoded(user),
            encoded(&self.options.password),
            self.port
        )
    }

    /// Its port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of `root`.
    pub fn password(&self) -> &str {
        &self.options.password
    }

    /// Its `server_id`, and of MariaDB its `gtid_domain_id`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The server's process; `None` while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        self.server.pid()
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Gives it another certificate, which it takes when it is told to read it again.
    ///
    /// # Errors
    ///
    /// Where the files cannot be written.
    pub fn proves(&self, proof: &Pair) -> Result<()> {
        proof.write(&self.dir, |_| Ok(()))
    }

    /// Sets its clock, at once and for all that it does: so many seconds before or behind the machine's.
    ///
    /// # Errors
    ///
    /// Where that cannot be written; it must have been made with [`Options::clock`].
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        clock::set(&self.dir, seconds)
    }

    /// Ends the server as a power failure would: it runs no other instruction.
    pub async fn kill_9(&self) {
        self.server.stop(Signal::SIGKILL).await;
    }

    /// Ends the server cleanly.
    pub async fn stop(&self) {
        self.server.stop(Signal::SIGTERM).await;
    }

    /// Starts it on the same port and data; stops it first where it runs. It is read-only again.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await;
        self.launch().await
    }

    /// Stops the server in the midst of what it does, connections and all, until [`Server::thaw`]. Returns when none of its
    /// threads runs any more.
    pub async fn freeze(&self) {
        self.server.freeze().await;
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// Stops it cleanly and copies all its data to `to`, a folder that is not there yet: a state to bring back.
    ///
    /// # Errors
    ///
    /// Where the data cannot be copied.
    pub async fn save(&self, to: &Path) -> Result<()> {
        self.stop().await;
        copy(&self.data(), to).await
    }

    /// Stops it and replaces all its data by what was saved in `from`, as from a backup.
    ///
    /// # Errors
    ///
    /// Where the data cannot be replaced.
    pub async fn bring_back(&self, from: &Path) -> Result<()> {
        self.stop().await;
        bring_back(&self.data(), from).await
    }

    /// Where clients of this machine reach it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Two servers that share one take each other's temporary tables.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Starts the server and waits until its log says that it is ready.
    async fn launch(&self) -> Result<()> {
        let started = Instant::now();
        let said = std::fs::metadata(self.log()).map_or(0, |log| log.len());
        E::starts(self);
        let server = Process::start(&E::process(self))?;
        loop {
            let log = std::fs::read(self.log()).unwrap_or_default();
            let new = usize::try_from(said).ok().and_then(|said| log.get(said..));
            if String::from_utf8_lossy(new.unwrap_or_default()).contains(READY) {
                self.server.put(server);
                E::started(self);
                return Ok(());
            }
            if let Some(error) = server.exited(E::TOOL.program()) {
                return Err(error);
            }
            if started.elapsed() > START_LIMIT {
                return Err(Error::NotReady {
                    what: E::TOOL.program().into(),
                    waited: START_LIMIT,
                    last: log_tail(server.log(), 5),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The arguments of the server: what both engines have, `more` of one of them, and what the caller wants.
    pub(crate) fn settings(&self, more: &[(&str, String)]) -> Vec<String> {
        let offset = (1 + (self.number - 1) % 64).to_string();
        let (port, socket) = (self.port.to_string(), self.socket().display().to_string());
        let ours = [
            ("basedir", self.base.display().to_string()),
            ("datadir", self.data().display().to_string()),
            ("lc_messages_dir", self.base.join("share/mysql").display().to_string()),
            ("socket", socket),
            ("pid_file", self.dir.join("pid").display().to_string()),
            ("relay_log", "relay".into()),
            ("bind_address", "127.0.0.1".into()),
            ("port", port),
            ("skip_name_resolve", "ON".into()),
            ("character_set_server", "utf8mb4".into()),
            ("innodb_buffer_pool_size", "32M".into()),
            ("server_id", self.number.to_string()),
            ("log_bin", "binlog".into()),
            ("log_bin_trust_function_creators", "ON".into()),
            ("sync_binlog", "1".into()),
            ("innodb_flush_log_at_trx_commit", "1".into()),
            ("auto_increment_increment", "64".into()),
            ("auto_increment_offset", offset),
            ("event_scheduler", "ON".into()),
            ("read_only", "ON".into()),
        ];
        let mut args = vec!["--no-defaults".to_owned()];
        args.extend(as_root());
        let ours = ours.iter().chain(more);
        args.extend(ours.map(|(name, value)| format!("--{name}={value}")));
        let proof = ["ssl_cert", "ssl_key"].into_iter().zip(certs::FILES);
        let proof = proof.map(|(name, file)| format!("--{name}={}", self.dir.join(file).display()));
        args.extend(proof.filter(|_| self.options.proof.is_some()));
        let wanted = self.options.settings.iter();
        args.extend(wanted.map(|(name, value)| match value.as_str() {
            "" => format!("--{name}"),
            value => format!("--{name}={value}"),
        }));
        args
    }

    /// A process in the server's folder, whose output is the server's log.
    pub(crate) fn spec(&self, program: PathBuf, args: Vec<String>, env: Vec<(&str, String)>) -> Spec {
        let ours = [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LC_ALL", "C".to_owned()),
            ("TZ", "UTC".to_owned()),
            ("TMPDIR", self.temporary().display().to_string()),
        ];
        let env = ours.into_iter().chain(env);
        Spec {
            program,
            args,
            env: Some(env.map(|(name, value)| (name.to_owned(), value)).collect()),
            dir: self.dir.clone(),
            log: self.log(),
            run_as: None,
            death_signal: Signal::SIGKILL,
        }
    }
}

impl<E> Drop for Server<E> {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop_blocking(Signal::SIGKILL, Duration::from_secs(3));
            if self.options.clock {
                clock::free(server.pid());
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        janitor::forget(&self.dir);
    }
}

/// Whether there is a folder with room for several servers: containers have little of such.
fn has_room(folder: &str) -> bool {
    const ROOM: u64 = 2 << 30;
    let free = nix::sys::statvfs::statvfs(folder).map(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()));
    free.is_ok_and(|free| free >= ROOM)
}

/// Makes the server's folder: `asked`, or a new one in `parent`.
fn folder(asked: Option<&Path>, parent: &Path, engine: &str) -> Result<PathBuf> {
    if let Some(dir) = asked {
        std::fs::create_dir_all(dir).map_err(Error::io("creating", dir))?;
        return Ok(dir.to_path_buf());
    }
    let made = tempfile::Builder::new()
        .prefix(&format!("multiactive-{}-", engine.to_lowercase()))
        .tempdir_in(parent);
    Ok(made.map_err(Error::io("creating a folder in", parent))?.keep())
}

/// The server runs as root only where it is told so.
pub(crate) fn as_root() -> Option<String> {
    nix::unistd::geteuid().is_root().then(|| "--user=root".to_owned())
}

/// A password as it stands in a statement.
pub(crate) fn quoted(password: &str) -> String {
    password.replace('\\', "\\\\").replace('\'', "\\'")
}
