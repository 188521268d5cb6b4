//! How a server of MariaDB is made and started.
//!
//! To make a data folder takes seconds. The first one is kept in the cache, and all others are copies of it.

use std::path::{Path, PathBuf};

use crate::files::{copy, write_private};
use crate::process::{Process, Spec, log_tail};
use crate::server::{Engine, Server, as_root, quoted};
use crate::tools::{self, Tool};
use crate::{Error, Result, clock};

pub use crate::server::Options;

/// A server of MariaDB. Dropping it ends it and removes its data.
pub type MariaDb = Server<Kind>;

/// MariaDB, of the two engines.
#[derive(Debug)]
pub struct Kind;

impl Engine for Kind {
    const NAME: &'static str = "MariaDB";
    const TOOL: Tool = Tool::MariaDb;
    const FAST: Option<&'static str> = None;

    async fn initialise(server: &MariaDb) -> Result<()> {
        copy(&template(server).await?, &server.data()).await?;
        write_private(&accounts_of(server), accounts(&server.options.password))
    }

    fn process(server: &MariaDb) -> Spec {
        let number = server.number().to_string();
        let mut args = server.settings(&[
            ("innodb_log_file_size", "16M".into()),
            ("gtid_domain_id", number),
            ("gtid_strict_mode", "ON".into()),
            ("gtid_ignore_duplicates", "ON".into()),
            ("binlog_format", "ROW".into()),
            ("log_slave_updates", "ON".into()),
            ("skip_slave_start", "ON".into()),
            ("slave_net_timeout", "5".into()),
        ]);
        if !server.options.fsync {
            args.extend(["--debug-no-sync".into(), "--innodb-flush-method=nosync".into()]);
        }
        let accounts = accounts_of(server);
        if accounts.exists() {
            args.push(format!("--init-file={}", accounts.display()));
        }
        process(server, "sbin/mariadbd", args)
    }

    /// As `docs/mariadb.md` says: relay logs that a killed server left may keep it from starting.
    fn starts(server: &MariaDb) {
        let files = std::fs::read_dir(server.data()).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with("relay-")) {
            let _ = std::fs::remove_file(file.path());
        }
    }

    fn started(server: &MariaDb) {
        let _ = std::fs::remove_file(accounts_of(server));
    }
}

/// The name of the data folder that all others are copies of: another one where it is made in another way.
const TEMPLATE: &str = "data-1";

/// The data folder that all others are copies of; made where there is none yet. `root` has no password in it.
async fn template(server: &MariaDb) -> Result<PathBuf> {
    let template = server.base.with_file_name(TEMPLATE);
    if template.exists() {
        return Ok(template);
    }
    let lock = tokio::task::spawn_blocking(|| tools::locked("mariadb-data", || {})).await;
    let _lock = lock.map_err(|error| Error::Refused(format!("waiting for a lock was interrupted: {error}")))??;
    // Somebody else may have made it meanwhile, or have died in the midst.
    if template.exists() {
        return Ok(template);
    }
    let new = server.base.with_file_name(format!("{TEMPLATE}.new"));
    let _ = std::fs::remove_dir_all(&new);
    make(server, &new).await?;
    // It was made without waiting for the disk, and stays for long.
    let on_disk = tokio::process::Command::new("sync").arg("-f").arg(&new).status().await;
    on_disk.map_err(Error::io("writing to the disk", &new))?;
    std::fs::rename(&new, &template).map_err(Error::io("renaming to", &template))?;
    Ok(template)
}

async fn make(server: &MariaDb, data: &Path) -> Result<()> {
    let mut args = vec![
        "--no-defaults".into(),
        format!("--basedir={}", server.base.display()),
        format!("--datadir={}", data.display()),
        "--skip-test-db".into(),
        "--skip-name-resolve".into(),
        "--auth-root-authentication-method=normal".into(),
        "--innodb-log-file-size=16M".into(),
        "--innodb-flush-method=nosync".into(),
        "--debug-no-sync".into(),
    ];
    args.extend(as_root());
    let spec = process(server, "bin/mariadb-install-db", args);
    if Process::start(&spec)?.wait().await.success() {
        return Ok(());
    }
    Err(Error::Build {
        tool: "a MariaDB data folder".into(),
        detail: log_tail(&spec.log, 40),
    })
}

impl MariaDb {
    /// The command line client, in a session of `root`.
    pub fn client(&self) -> tokio::process::Command {
        let mut client = tokio::process::Command::new(self.base.join("bin/mariadb"));
        client
            .args(["--no-defaults", "--user=root", "--host=127.0.0.1"])
            .arg(format!("--port={}", self.port()))
            .env("MYSQL_PWD", self.password())
            .env("LD_LIBRARY_PATH", libraries(self));
        client
    }
}

fn process(server: &MariaDb, program: &str, args: Vec<String>) -> Spec {
    let mut env = vec![("LD_LIBRARY_PATH", libraries(server))];
    if server.options.clock {
        env.extend(clock::variables(&server.dir));
    }
    server.spec(server.base.join(program), args, env)
}

/// Where the libraries lie that were unpacked with it.
fn libraries(server: &MariaDb) -> String {
    let libraries: [PathBuf; 2] = ["lib", "usr/lib"].map(|lib| {
        let arch = format!("{}-linux-gnu", std::env::consts::ARCH);
        server.base.with_file_name(lib).join(arch)
    });
    libraries.map(|path| path.display().to_string()).join(":")
}

/// The statements that are run when it starts for the first time.
fn accounts_of(server: &MariaDb) -> PathBuf {
    server.dir.join("accounts.sql")
}

/// `root` with a password, and nobody else; none of it is in the log. One statement a line.
fn accounts(password: &str) -> String {
    let password = quoted(password);
    format!(
        "SET SESSION sql_log_bin = 0;\n\
         FLUSH PRIVILEGES;\n\
         DELETE FROM mysql.global_priv WHERE User NOT IN ('root', 'mariadb.sys');\n\
         FLUSH PRIVILEGES;\n\
         ALTER USER root@localhost IDENTIFIED BY '{password}', root@'127.0.0.1' IDENTIFIED BY '{password}';\n"
    )
}
