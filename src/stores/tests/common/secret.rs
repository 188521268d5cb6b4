//! An authority of the members' servers, what it signs, and the file that its certificate is in.

use multiactive_fleet::certs::{Authority, Pair};
use multiactive_stores::access::Tls;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Where every server is in a test.
const HOST: &str = "127.0.0.1";

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

    /// What those who trust it are told.
    pub fn tls(&self) -> Tls {
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

/// What a server's log says after its first `from` bytes.
pub fn log_from(log: &Path, from: usize) -> String {
    let text = std::fs::read(log).unwrap();
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}
