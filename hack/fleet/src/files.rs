//! Files that hold keys and passwords, and copies of whole folders.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::{Error, Result};

/// Writes a file that only this user can read, at no moment anybody else.
///
/// # Errors
///
/// [`Error::Io`].
pub fn write_private(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(Error::io("writing", path))?;
    // One that existed keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(Error::io("closing", path))?;
    file.write_all(text.as_ref()).map_err(Error::io("writing", path))
}

/// Copies a folder with owners and rights.
pub(crate) async fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = tokio::process::Command::new("cp").arg("-a").args([from, to]).status();
    let status = status.await.map_err(Error::io("copying", from))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Build {
            tool: format!("a copy of {}", from.display()),
            detail: format!("cp: {status}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_the_owners_alone_also_where_an_open_one_was() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["new", "old"] {
            let path = dir.path().join(name);
            if name == "old" {
                std::fs::write(&path, "a longer text").unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            }
            write_private(&path, "secret").unwrap();
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret");
        }
    }
}
