//! A PostgreSQL server of its own: data folder, port and password, made for logical replication.
//!
//! The server refuses to run as root, so then it runs as an unprivileged user, in a folder that this user can enter,
//! from a copy (hard links) of the installation where the cache is closed to it.

mod install;

pub(crate) use install::free_shared_memory;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::certs::{self, Pair};
use crate::files::copy;
use crate::held::{Held, bring_back};
use crate::process::{Process, RunAs, Spec, log_tail};
use crate::{Error, Result, clock, janitor, ports, tools};

/// Which PostgreSQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Release {
    /// 18.
    #[default]
    Newest,
    /// 17, which only some tests want.
    Seventeen,
    /// 16, as well.
    Sixteen,
}

/// How a server is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its release.
    pub release: Release,
    /// Where it keeps everything, removed when the server is dropped. A temporary folder when `None`, removed also
    /// when our process is killed.
    pub dir: Option<PathBuf>,
    /// The password of `postgres`.
    pub password: String,
    /// Whether commits are durable: `false` is faster, and only a crash of the machine can tell.
    pub fsync: bool,
    /// The port; a free one when `None`.
    pub port: Option<u16>,
    /// By what it proves who it is, to whoever wants to speak with it in secret; without it nobody can.
    pub proof: Option<Pair>,
    /// Whether its clock can be set while it runs: [`Postgres::set_clock`].
    pub clock: bool,
    /// More settings, which win over ours.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            release: Release::Newest,
            dir: None,
            password: "multiactive".into(),
            fsync: false,
            port: None,
            proof: None,
            clock: false,
            settings: Vec::new(),
        }
    }
}

/// A server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    programs: PathBuf,
    clients: PathBuf,
    port: u16,
    password: String,
    run_as: Option<RunAs>,
    /// Whether its clock can be set.
    clock: bool,
    server: Held,
}

const START_LIMIT: Duration = Duration::from_secs(60);

impl Postgres {
    /// Makes a server and starts it; returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// Where PostgreSQL cannot be had, initialised or started.
    pub async fn start(options: Options) -> Result<Postgres> {
        let tool = match (options.release, &options.proof) {
            (Release::Newest, Some(_)) => tools::Tool::PostgresTls,
            (Release::Newest, None) => tools::Tool::Postgres,
            (Release::Seventeen, _) => tools::Tool::Postgres17,
            (Release::Sixteen, _) => tools::Tool::Postgres16,
        };
        let programs = tokio::task::spawn_blocking(move || {
            let clients = tools::ensure(tools::Tool::Postgres)?;
            Ok::<_, Error>((tools::ensure(tool)?, clients))
        });
        let (program, clients) = programs
            .await
            .map_err(|error| Error::Refused(format!("preparing PostgreSQL was interrupted: {error}")))??;
        let run_as = RunAs::unprivileged();
        let dir = install::folder(options.dir.as_deref(), run_as)?;
        if options.dir.is_none() {
            janitor::remember(&dir);
        }
        let port = options.port.map_or_else(ports::free, Ok)?;
        let programs = install::usable_by(&program, &dir, run_as)?;
        let clients = match clients == program {
            true => programs.clone(),
            false => clients.parent().unwrap_or(&clients).to_path_buf(),
        };
        let made = Postgres {
            dir,
            programs,
            clients,
            port,
            password: options.password.clone(),
            run_as,
            clock: options.clock,
            server: Held::default(),
        };
        if let Some(proof) = &options.proof {
            made.proves(proof)?;
        }
        if made.clock {
            clock::furnish(&made.dir).await?;
        }
        made.initialise(&options).await?;
        made.launch().await?;
        Ok(made)
    }

    /// `postgres://…` for `user` and `database`, with this server's password: give roles of tests the same one.
    pub fn url(&self, user: &str, database: &str) -> String {
        let encoded = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        format!(
            "postgres://{}:{}@127.0.0.1:{}/{database}",
            encoded(user),
            encoded(&self.password),
            self.port
        )
    }

    /// Its port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server's process; `None` while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        self.server.pid()
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// The folder of `psql`, `pg_dump` and the others: the newest ones, which know every older server.
    pub fn bin(&self) -> &Path {
        &self.clients
    }

    /// Gives it another certificate, which it takes once it is told to read its configuration again.
    ///
    /// # Errors
    ///
    /// Where the files cannot be written.
    pub fn proves(&self, proof: &Pair) -> Result<()> {
        proof.write(&self.dir, |path| install::own(path, self.run_as))
    }

    /// Ends the server as a power failure would: no process of it runs another instruction.
    pub async fn kill_9(&self) {
        if let Some(server) = self.server.take() {
            // The parent first: it must not see its children die. Each backend leads a session of its own.
            let children = install::children_of(server.pid());
            server.signal(Signal::SIGKILL);
            for child in children {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL);
            }
            server.wait().await;
        }
    }

    /// Ends the server cleanly: sessions are ended, nothing is left to recover.
    pub async fn stop(&self) {
        self.server.stop(Signal::SIGINT).await;
    }

    /// Starts it on the same port and data; stops it first where it runs.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await;
        self.launch().await
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

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Sets its clock, at once and for all that it does: so many seconds before or behind the machine's.
    ///
    /// # Errors
    ///
    /// Where that cannot be written; it must have been made with [`Options::clock`].
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        clock::set(&self.dir, seconds)
    }

    /// A program that reads our clock in the place of the machine's: whoever else is started before it, to change its user, does not.
    fn by_its_clock(&self, program: &Path, args: Vec<String>) -> (PathBuf, Vec<String>) {
        let set = clock::variables(&self.dir).map(|(name, value)| format!("{name}={value}"));
        let set = set.into_iter().chain([program.display().to_string()]);
        ("/usr/bin/env".into(), set.chain(args).collect())
    }

    async fn initialise(&self, options: &Options) -> Result<()> {
        let password_file = self.dir.join("password");
        install::write_for(&password_file, &options.password, self.run_as)?;
        let spec = self.spec(
            "initdb",
            vec![
                "--username=postgres".into(),
                "--auth=scram-sha-256".into(),
                format!("--pwfile={}", password_file.display()),
                "--encoding=UTF8".into(),
                "--locale=C".into(),
                "--no-sync".into(),
                "--no-instructions".into(),
                format!("--pgdata={}", self.data().display()),
            ],
        );
        let status = Process::start(&spec)?.wait().await;
        let _ = std::fs::remove_file(&password_file);
        if !status.success() {
            let detail = log_tail(&spec.log, 15);
            return Err(Error::Build {
                tool: "a PostgreSQL data folder".into(),
                detail,
            });
        }
        let path = self.data().join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        for (name, value) in settings(self.port, options) {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        std::fs::write(&path, text).map_err(Error::io("writing", &path))
    }

    /// Starts the server and waits until its own state file says that it is ready.
    async fn launch(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let server = Process::start(&self.spec("postgres", vec!["-D".into(), self.data().display().to_string()]))?;
            let state = self.data().join("postmaster.pid");
            let outcome = loop {
                if let Some(error) = server.exited("postgres") {
                    break Err(error);
                }
                if is_ready(&std::fs::read_to_string(&state).unwrap_or_default(), server.pid()) {
                    break Ok(());
                }
                if started.elapsed() > START_LIMIT {
                    let last = log_tail(server.log(), 5);
                    break Err(Error::NotReady {
                        what: "postgres".into(),
                        waited: START_LIMIT,
                        last,
                    });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            match outcome {
                Ok(()) => {
                    self.server.put(server);
                    return Ok(());
                }
                // Children of a killed server may hold its memory for a moment longer.
                Err(Error::Exited { tail, .. })
                    if tail.contains("shared memory block") && started.elapsed() < START_LIMIT =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn spec(&self, program: &str, args: Vec<String>) -> Spec {
        let env = [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("TZ", "UTC")];
        let program = self.programs.join(program);
        let (program, args) = match self.clock {
            true => self.by_its_clock(&program, args),
            false => (program, args),
        };
        Spec {
            program,
            args,
            env: Some(
                env.iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            ),
            dir: self.dir.clone(),
            log: self.log(),
            run_as: self.run_as,
            // An immediate shutdown, which also frees its shared memory.
            death_signal: Signal::SIGQUIT,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop_blocking(Signal::SIGQUIT, Duration::from_secs(3));
            if self.clock {
                clock::free(server.pid());
            }
        }
        free_shared_memory(&self.data());
        let _ = std::fs::remove_dir_all(&self.dir);
        janitor::forget(&self.dir);
    }
}

/// What `postmaster.pid` says: line 1 is the server's pid, line 8 its state.
fn is_ready(text: &str, pid: i32) -> bool {
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid) && lines.nth(6).map(str::trim) == Some("ready")
}

fn settings(port: u16, options: &Options) -> Vec<(String, String)> {
    let on_off = |value| if value { "on" } else { "off" };
    let port = port.to_string();
    // Before 18 there are as many origins as slots.
    let origins = match options.release {
        Release::Newest => "max_active_replication_origins",
        Release::Seventeen | Release::Sixteen => "max_replication_slots",
    };
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        ("port", port.as_str()),
        ("unix_socket_directories", ""),
        ("dynamic_shared_memory_type", "mmap"), // in the data folder: nothing is left in /dev/shm
        ("shared_buffers", "32MB"),
        ("max_connections", "200"),
        ("password_encryption", "scram-sha-256"),
        ("fsync", on_off(options.fsync)),
        ("full_page_writes", on_off(options.fsync)),
        ("wal_level", "logical"),
        ("max_prepared_transactions", "0"),
        ("track_commit_timestamp", "on"),
        ("wal_retrieve_retry_interval", "200ms"),
        ("max_replication_slots", "64"),
        ("max_wal_senders", "64"),
        (origins, "64"),
        ("max_logical_replication_workers", "48"),
        ("max_worker_processes", "64"),
        ("max_sync_workers_per_subscription", "2"),
        ("log_line_prefix", "%m [%p] %u@%d "),
    ];
    let proof = ["ssl_cert_file", "ssl_key_file"].into_iter().zip(certs::FILES);
    let proof = proof.map(|(name, file)| (name.to_owned(), format!("../{file}")));
    let proof = proof.chain([("ssl".to_owned(), "on".to_owned())]);
    ours.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(proof.filter(|_| options.proof.is_some()))
        .chain(options.settings.iter().cloned())
        .collect()
}
