//! The clock of a server that can be set while it runs: a library that is loaded before the server reads it from a file, in the
//! place of the machine's.

use std::path::Path;

use crate::tools::{self, Tool};
use crate::{Error, Result};

/// In the server's folder: the library, and by how much the clock is wrong.
const FILES: [&str; 2] = ["libfaketime.so", "clock"];

/// Puts library and clock into a server's folder; the clock is right.
pub(crate) async fn furnish(dir: &Path) -> Result<()> {
    let library = tokio::task::spawn_blocking(|| tools::ensure(Tool::Faketime))
        .await
        .map_err(|error| Error::Refused(format!("preparing libfaketime was interrupted: {error}")))??;
    let copy = dir.join(FILES[0]);
    std::fs::copy(&library, &copy).map_err(Error::io("writing", &copy))?;
    set(dir, 0)
}

/// Sets it, from the next full second on and for all that the server does: so many seconds before or behind the machine's.
pub(crate) fn set(dir: &Path, seconds: i64) -> Result<()> {
    let path = dir.join(FILES[1]);
    // Never half a number.
    let new = dir.join("clock.new");
    std::fs::write(&new, format!("{seconds:+}\n")).map_err(Error::io("writing", &new))?;
    std::fs::rename(&new, &path).map_err(Error::io("writing", &path))
}

/// What a program's environment needs that goes by it.
pub(crate) fn variables(dir: &Path) -> [(&'static str, String); 4] {
    let at = |name: &str| dir.join(name).display().to_string();
    [
        ("LD_PRELOAD", at(FILES[0])),
        ("FAKETIME_TIMESTAMP_FILE", at(FILES[1])),
        // The first reading of each second looks into the file. Not each one: a server reads its clock in signal handlers, too,
        // where little is safe. Time that only passes is as it was.
        ("FAKETIME_CACHE_DURATION", "0".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// Removes what the library shares between the processes of a server that has ended.
pub(crate) fn free(pid: i32) {
    for name in [format!("sem.faketime_sem_{pid}"), format!("faketime_shm_{pid}")] {
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}
