//! How a server of MySQL is made and started, and its command line client.
//!
//! Its program and libraries are newer than those of the machine, its C library too: so the dynamic loader that came with
//! them starts it. A data folder is a copy of one that was made when the packages were unpacked, for to make one takes
//! seconds; each copy names itself when it starts.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::files::{copy, write_private};
use crate::process::Spec;
use crate::server::{Engine, Server, quoted};
use crate::tools::Tool;

pub use crate::server::Options;

/// A server of MySQL. Dropping it ends it and removes its data.
pub type MySql = Server<Kind>;

/// MySQL, of the two engines.
#[derive(Debug)]
pub struct Kind;

impl Engine for Kind {
    const NAME: &'static str = "MySQL";
    const TOOL: Tool = Tool::MySql;
    const FAST: Option<&'static str> = Some("/dev/shm");

    async fn initialise(server: &MySql) -> Result<()> {
        copy(&template(&server.base), &server.data()).await?;
        write_private(&accounts_of(server), accounts(&server.options.password))
    }

    fn process(server: &MySql) -> Spec {
        let mut args = server.settings(&[
            ("innodb_redo_log_capacity", "16M".into()),
            ("gtid_mode", "ON".into()),
            ("enforce_gtid_consistency", "ON".into()),
            ("log_replica_updates", "ON".into()),
            ("skip_replica_start", "ON".into()),
            ("relay_log_recovery", "ON".into()),
            ("replica_parallel_workers", "1".into()),
            ("replica_net_timeout", "5".into()),
            ("secure_file_priv", "NULL".into()),
            ("mysqlx", "OFF".into()),
        ]);
        args.extend(arguments(&server.base));
        if !server.options.fsync {
            args.push("--innodb-flush-method=nosync".into());
        }
        if server.options.proof.is_none() {
            // It makes certificates by itself otherwise, and nobody is to trust those.
            args.push("--auto-generate-certs=OFF".into());
        }
        let accounts = accounts_of(server);
        if accounts.exists() {
            args.push(format!("--init-file={}", accounts.display()));
        }
        let libraries = libraries(&server.base);
        let loaded = ["--library-path".into(), libraries.display().to_string()];
        let program = server.base.join("sbin/mysqld").display().to_string();
        let args = loaded.into_iter().chain([program]).chain(args).collect();
        server.spec(loader(&libraries), args, Vec::new())
    }

    fn starts(_server: &MySql) {}

    fn started(server: &MySql) {
        let _ = std::fs::remove_file(accounts_of(server));
    }
}

impl MySql {
    /// The command line client, in a session of `root`, by the server's socket: a server that proves nothing gets no password
    /// otherwise.
    pub fn client(&self) -> tokio::process::Command {
        let libraries = libraries(&self.base);
        let mut client = tokio::process::Command::new(loader(&libraries));
        client
            .arg("--library-path")
            .arg(libraries)
            .arg(self.base.join("bin/mysql"))
            .args(["--no-defaults", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .env("MYSQL_PWD", self.password());
        client
    }
}

/// The data folder that all others are copies of; `base` is the folder `usr` of the unpacked packages.
pub(crate) fn template(base: &Path) -> PathBuf {
    base.with_file_name("data")
}

/// The folder of the libraries.
pub(crate) fn libraries(base: &Path) -> PathBuf {
    base.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
}

/// The dynamic loader.
pub(crate) fn loader(libraries: &Path) -> PathBuf {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x86-64.so.2",
        "aarch64" => "aarch64.so.1",
        other => other,
    };
    libraries.join(format!("ld-linux-{arch}"))
}

/// What every start of the program needs to find what belongs to it.
pub(crate) fn arguments(base: &Path) -> Vec<String> {
    let share = base.join("share/mysql");
    vec![
        format!("--character-sets-dir={}", share.join("charsets").display()),
        format!("--plugin-dir={}", base.join("lib/mysql/plugin").display()),
    ]
}

/// The statements that are run when it starts for the first time.
fn accounts_of(server: &MySql) -> PathBuf {
    server.dir.join("accounts.sql")
}

/// `root` with a password; none of it is in the log. One statement a line.
fn accounts(password: &str) -> String {
    let password = quoted(password);
    format!(
        "SET SESSION sql_log_bin = 0;\n\
         ALTER USER root@localhost IDENTIFIED BY '{password}';\n\
         CREATE USER root@'127.0.0.1' IDENTIFIED BY '{password}';\n\
         GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
    )
}
