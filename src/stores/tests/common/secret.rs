//! An authority of the members' servers, what it signs, and the file that its certificate is in.

use multiactive_fleet::certs::{Authority, Pair};
use multiactive_stores::Driver;
use multiactive_stores::access::{Access, Tls};
use multiactive_stores::driver::{Link, LinkState};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Where every server is in a test.
const HOST: &str = "127.0.0.1";

/// Each unit, and the other.
pub const UNITS: [(&str, &str); 2] = [("east-1", "north-1"), ("north-1", "east-1")];

/// An authority, with its certificate in a file that every server's user can read.
pub struct Ca {
    authority: Authority,
    dir: tempfile::TempDir,
}

impl Ca {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let authority = Authority::new("databases").unwrap();
        std::fs::write(dir.path().join("ca.crt"), authority.cert()).unwrap();
        Self { authority, dir }
    }

    /// The way to a server from whom a certificate of it is demanded.
    pub fn demanded(&self, access: Access) -> Access {
        Access {
            tls: Some(self.tls()),
            ..access
        }
    }

    /// What those who trust it are told.
    fn tls(&self) -> Tls {
        let file = self.dir.path().join("ca.crt");
        Tls::new(self.authority.cert(), file.to_str().unwrap()).unwrap()
    }

    pub fn good(&self) -> Pair {
        self.authority.server("db", &[HOST]).unwrap()
    }

    /// What proves nothing, with the word that names why in what both ends say of it.
    pub fn bad(&self) -> [(&'static str, Pair); 3] {
        let before = SystemTime::now() - Duration::from_secs(60);
        let expired = self.authority.server_until("db", &[HOST], Some(before)).unwrap();
        [
            ("expired", expired),
            ("another name", self.authority.server("db", &["127.0.0.9"]).unwrap()),
            ("another authority", Self::new().good()),
        ]
    }
}

/// A server's log from some moment on.
pub struct Log {
    path: PathBuf,
    from: usize,
}

impl Log {
    /// From now on.
    pub fn of(path: PathBuf) -> Self {
        let from = std::fs::read(&path).unwrap().len();
        Self { path, from }
    }

    /// Waits until the server has written this word.
    pub async fn says(&self, word: &str) {
        super::until(&format!("{} to say `{word}`", self.path.display()), async || {
            let text = std::fs::read(&self.path).unwrap();
            let said = String::from_utf8_lossy(&text[self.from..]).into_owned();
            said.contains(word).then_some(()).ok_or(said)
        })
        .await;
    }
}

/// The server proves nothing, so nothing is sent to it, and that is said.
pub async fn is_refused(driver: &impl Driver, what: &str) {
    let told = driver.inspect().await.unwrap_err().explain();
    assert!(told.contains("certificate"), "{what}: {told}");
}

/// The other end proves nothing, and the link says so.
pub fn is_broken_by_certificate(link: &Link) -> bool {
    matches!(&link.state, LinkState::Broken(why) if why.contains("certificate"))
}
