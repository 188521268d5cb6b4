//! A MariaDB server of its own: data folder, port and password, made to be a member of a mesh, and fenced when it starts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::certs::{self, Pair};
use crate::files::{copy, write_private};
use crate::held::{Held, bring_back};
use crate::process::{Process, Spec, log_tail};
use crate::{Error, Result, janitor, ports, tools};

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
    /// Its `server_id`, `gtid_domain_id` and `auto_increment_offset`, which no two members may share; the next number of
    /// this process when `None`.
    pub number: Option<u32>,
    /// By what it proves who it is, to whoever wants to speak with it in secret; without it nobody can.
    pub proof: Option<Pair>,
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
            settings: Vec::new(),
        }
    }
}

/// A server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct MariaDb {
    dir: PathBuf,
    /// The folder `usr` of the unpacked packages.
    base: PathBuf,
    port: u16,
    number: u32,
    options: Options,
    server: Held,
}

const START_LIMIT: Duration = Duration::from_secs(60);

/// What the log says when it accepts connections.
const READY: &str = "ready for connections";

/// The number of the next server.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl MariaDb {
    /// Makes a server and starts it; returns when it accepts connections. It is read-only.
    ///
    /// # Errors
    ///
    /// Where MariaDB cannot be had, initialised or started.
    pub async fn start(options: Options) -> Result<MariaDb> {
        let program = tokio::task::spawn_blocking(|| tools::ensure(tools::Tool::MariaDb))
            .await
            .map_err(|error| Error::Refused(format!("preparing MariaDB was interrupted: {error}")))??;
        let dir = folder(options.dir.as_deref())?;
        if options.dir.is_none() {
            janitor::remember(&dir);
        }
        let made = MariaDb {
            dir,
            base: program.ancestors().nth(2).unwrap_or(&program).to_path_buf(),
            port: options.port.map_or_else(ports::free, Ok)?,
            number: options.number.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed)),
            options,
            server: Held::default(),
        };
        if let Some(proof) = &made.options.proof {
            made.proves(proof)?;
        }
        made.initialise().await?;
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

    /// Its `server_id` and `gtid_domain_id`.
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

    /// Gives it another certificate, which it takes upon `FLUSH SSL`.
    ///
    /// # Errors
    ///
    /// Where the files cannot be written.
    pub fn proves(&self, proof: &Pair) -> Result<()> {
        proof.write(&self.dir, |_| Ok(()))
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

    /// Stops the server in the midst of what it does, connections and all, until [`MariaDb::thaw`]. Returns when none of its
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

    fn temporary(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    async fn initialise(&self) -> Result<()> {
        let temporary = self.temporary();
        std::fs::create_dir_all(&temporary).map_err(Error::io("creating", &temporary))?;
        let script = self.dir.join("init.sql");
        write_private(&script, accounts(&self.options.password))?;
        let mut args = vec![
            "--no-defaults".into(),
            format!("--basedir={}", self.base.display()),
            format!("--datadir={}", self.data().display()),
            format!("--extra-file={}", script.display()),
            "--skip-test-db".into(),
            "--skip-name-resolve".into(),
            "--auth-root-authentication-method=normal".into(),
            "--innodb-log-file-size=16M".into(),
            "--innodb-flush-method=nosync".into(),
            "--debug-no-sync".into(),
        ];
        args.extend(as_root());
        let spec = self.spec("bin/mariadb-install-db", args);
        let status = Process::start(&spec)?.wait().await;
        let _ = std::fs::remove_file(&script);
        if status.success() {
            Ok(())
        } else {
            Err(Error::Build {
                tool: "a MariaDB data folder".into(),
                detail: log_tail(&spec.log, 40),
            })
        }
    }

    /// Starts the server and waits until its log says that it is ready.
    async fn launch(&self) -> Result<()> {
        let started = Instant::now();
        let said = std::fs::metadata(self.log()).map_or(0, |log| log.len());
        let server = Process::start(&self.spec("sbin/mariadbd", self.settings()))?;
        loop {
            let log = std::fs::read(self.log()).unwrap_or_default();
            let new = usize::try_from(said).ok().and_then(|said| log.get(said..));
            if String::from_utf8_lossy(new.unwrap_or_default()).contains(READY) {
                self.server.put(server);
                return Ok(());
            }
            if let Some(error) = server.exited("mariadbd") {
                return Err(error);
            }
            if started.elapsed() > START_LIMIT {
                return Err(Error::NotReady {
                    what: "mariadbd".into(),
                    waited: START_LIMIT,
                    last: log_tail(server.log(), 5),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn settings(&self) -> Vec<String> {
        let (data, number) = (self.data(), self.number.to_string());
        let offset = (1 + (self.number - 1) % 64).to_string();
        let (port, socket) = (self.port.to_string(), self.dir.join("socket").display().to_string());
        let ours = [
            ("basedir", self.base.display().to_string()),
            ("datadir", data.display().to_string()),
            ("lc_messages_dir", self.base.join("share/mysql").display().to_string()),
            ("socket", socket),
            ("pid_file", self.dir.join("pid").display().to_string()),
            ("relay_log", "relay".into()),
            ("bind_address", "127.0.0.1".into()),
            ("port", port),
            ("skip_name_resolve", "ON".into()),
            ("character_set_server", "utf8mb4".into()),
            ("innodb_buffer_pool_size", "32M".into()),
            ("innodb_log_file_size", "16M".into()),
            ("server_id", number.clone()),
            ("gtid_domain_id", number),
            ("gtid_strict_mode", "ON".into()),
            ("gtid_ignore_duplicates", "ON".into()),
            ("log_bin", "binlog".into()),
            ("log_bin_trust_function_creators", "ON".into()),
            ("binlog_format", "ROW".into()),
            ("log_slave_updates", "ON".into()),
            ("sync_binlog", "1".into()),
            ("innodb_flush_log_at_trx_commit", "1".into()),
            ("auto_increment_increment", "64".into()),
            ("auto_increment_offset", offset),
            ("skip_slave_start", "ON".into()),
            ("slave_net_timeout", "5".into()),
            ("event_scheduler", "ON".into()),
            ("read_only", "ON".into()),
        ];
        let mut args = vec!["--no-defaults".to_owned()];
        args.extend(as_root());
        if !self.options.fsync {
            args.extend(["--debug-no-sync".into(), "--innodb-flush-method=nosync".into()]);
        }
        args.extend(ours.iter().map(|(name, value)| format!("--{name}={value}")));
        let proof = ["ssl_cert", "ssl_key"].into_iter().zip(certs::FILES);
        let proof = proof.map(|(name, file)| format!("--{name}={}", self.dir.join(file).display()));
        args.extend(proof.filter(|_| self.options.proof.is_some()));
        let more = self.options.settings.iter();
        args.extend(more.map(|(name, value)| match value.as_str() {
            "" => format!("--{name}"),
            value => format!("--{name}={value}"),
        }));
        args
    }

    fn spec(&self, program: &str, args: Vec<String>) -> Spec {
        let libraries = ["lib", "usr/lib"].map(|lib| {
            let arch = format!("{}-linux-gnu", std::env::consts::ARCH);
            self.base.with_file_name(lib).join(arch).display().to_string()
        });
        let env = [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LC_ALL", "C".to_owned()),
            ("TZ", "UTC".to_owned()),
            ("LD_LIBRARY_PATH", libraries.join(":")),
            // Two servers that share one take each other's temporary tables.
            ("TMPDIR", self.temporary().display().to_string()),
        ];
        Spec {
            program: self.base.join(program),
            args,
            env: Some(env.map(|(name, value)| (name.to_owned(), value)).to_vec()),
            dir: self.dir.clone(),
            log: self.log(),
            run_as: None,
            death_signal: Signal::SIGKILL,
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop_blocking(Signal::SIGKILL, Duration::from_secs(3));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        janitor::forget(&self.dir);
    }
}

/// Makes the server's folder: `asked`, or a new one in the system's temporary folder.
fn folder(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = asked {
        std::fs::create_dir_all(dir).map_err(Error::io("creating", dir))?;
        return Ok(dir.to_path_buf());
    }
    let parent = std::env::temp_dir();
    let made = tempfile::Builder::new()
        .prefix("multiactive-mariadb-")
        .tempdir_in(&parent);
    Ok(made.map_err(Error::io("creating a folder in", &parent))?.keep())
}

/// The server runs as root only where it is told so.
fn as_root() -> Option<String> {
    nix::unistd::geteuid().is_root().then(|| "--user=root".to_owned())
}

/// `root` with a password, and nobody else.
fn accounts(password: &str) -> String {
    let password = password.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "FLUSH PRIVILEGES;\n\
         DELETE FROM mysql.global_priv WHERE User NOT IN ('root', 'mariadb.sys');\n\
         FLUSH PRIVILEGES;\n\
         ALTER USER root@localhost IDENTIFIED BY '{password}', root@'127.0.0.1' IDENTIFIED BY '{password}';\n"
    )
}
