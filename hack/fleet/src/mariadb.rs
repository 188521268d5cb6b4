//! How a server of MariaDB is made and started.

use std::path::PathBuf;

use crate::files::write_private;
use crate::process::{Process, Spec, log_tail};
use crate::server::{Engine, Server, as_root, quoted};
use crate::tools::Tool;
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
        let script = server.dir.join("init.sql");
        write_private(&script, accounts(&server.options.password))?;
        let mut args = vec![
            "--no-defaults".into(),
            format!("--basedir={}", server.base.display()),
            format!("--datadir={}", server.data().display()),
            format!("--extra-file={}", script.display()),
            "--skip-test-db".into(),
            "--skip-name-resolve".into(),
            "--auth-root-authentication-method=normal".into(),
            "--innodb-log-file-size=16M".into(),
            "--innodb-flush-method=nosync".into(),
            "--debug-no-sync".into(),
        ];
        args.extend(as_root());
        let spec = process(server, "bin/mariadb-install-db", args);
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
        process(server, "sbin/mariadbd", args)
    }

    /// As `docs/mariadb.md` says: relay logs that a killed server left may keep it from starting.
    fn starts(server: &MariaDb) {
        let files = std::fs::read_dir(server.data()).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with("relay-")) {
            let _ = std::fs::remove_file(file.path());
        }
    }

    fn started(_server: &MariaDb) {}
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

/// `root` with a password, and nobody else.
fn accounts(password: &str) -> String {
    let password = quoted(password);
    format!(
        "FLUSH PRIVILEGES;\n\
         DELETE FROM mysql.global_priv WHERE User NOT IN ('root', 'mariadb.sys');\n\
         FLUSH PRIVILEGES;\n\
         ALTER USER root@localhost IDENTIFIED BY '{password}', root@'127.0.0.1' IDENTIFIED BY '{password}';\n"
    )
}
