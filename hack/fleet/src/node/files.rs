//! Files of a volume, all replaced at once: a reader sees the old set or the new one, never a mixture.
//!
//! As the kubelet does it: `name` links to `..data/name`, and `..data` to a folder of this version, replaced by rename.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use crate::{Error, Result};

/// The files of a volume by relative path: bytes and mode.
pub(super) type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// Makes the volume hold exactly `files`.
pub(super) fn replace(volume: &Path, files: &Files) -> Result<()> {
    std::fs::create_dir_all(volume).map_err(Error::io("creating", volume))?;
    let fresh = tempfile::Builder::new()
        .prefix("..v")
        .tempdir_in(volume)
        .map_err(Error::io("writing to", volume))?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fresh.path(), open).map_err(Error::io("opening up", fresh.path()))?;
    for (name, (bytes, mode)) in files {
        if !Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(Error::Refused(format!("a volume's file may not be called {name:?}")));
        }
        let path = fresh.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
        }
        std::fs::write(&path, bytes).map_err(Error::io("writing", &path))?;
        let mode = std::fs::Permissions::from_mode(*mode);
        std::fs::set_permissions(&path, mode).map_err(Error::io("changing the mode of", &path))?;
    }
    let fresh = fresh.keep();
    let data = volume.join("..data");
    let old = std::fs::read_link(&data).ok();
    let next = volume.join("..data_next");
    let _ = std::fs::remove_file(&next); // left by a writer that was killed
    let version = fresh.file_name().map(OsString::from).unwrap_or_default();
    symlink(version, &next).map_err(Error::io("linking", &next))?;
    std::fs::rename(&next, &data).map_err(Error::io("replacing", &data))?;
    link_names(volume, files)?;
    if let Some(old) = old {
        let _ = std::fs::remove_dir_all(volume.join(old));
    }
    Ok(())
}

/// Brings the names that readers use in line with the set.
fn link_names(volume: &Path, files: &Files) -> Result<()> {
    let tops: std::collections::BTreeSet<&str> = files.keys().filter_map(|name| name.split('/').next()).collect();
    for top in &tops {
        let link = volume.join(top);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), &link).map_err(Error::io("linking", &link))?;
        }
    }
    for entry in std::fs::read_dir(volume)
        .map_err(Error::io("reading", volume))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = std::fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("..data"));
        if ours && !tops.contains(name.as_str()) {
            std::fs::remove_file(entry.path()).map_err(Error::io("removing", &entry.path()))?;
        }
    }
    Ok(())
}

/// Lets `to` be reached as `from`, a path inside a container's root.
pub(super) fn mount(root: &Path, from: &str, to: &Path) -> Result<()> {
    let inside: std::path::PathBuf = Path::new(from)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let link = root.join(inside);
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    }
    match symlink(to, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("linking", &link)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> Files {
        files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (text.as_bytes().to_vec(), 0o640)))
            .collect()
    }

    #[test]
    fn a_volume_holds_exactly_the_last_set_and_keeps_one_version() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        replace(&volume, &set(&[("a", "1"), ("d/x", "2")])).unwrap();
        replace(&volume, &set(&[("b", "3"), ("d/y", "4")])).unwrap();
        let read = |name: &str| std::fs::read_to_string(volume.join(name)).ok();
        assert_eq!((read("a"), read("d/x")), (None, None));
        assert_eq!((read("b").as_deref(), read("d/y").as_deref()), (Some("3"), Some("4")));
        let versions = std::fs::read_dir(&volume)
            .unwrap()
            .flatten()
            .filter(|e| e.path().is_dir() && !e.path().is_symlink());
        assert_eq!(versions.count(), 1, "older versions are removed");
        assert_eq!(
            std::fs::metadata(volume.join("b")).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn a_file_cannot_leave_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../x", "/x", "a/../../x", "."] {
            assert!(replace(dir.path(), &set(&[(name, "")])).is_err(), "{name}");
        }
    }

    #[test]
    fn a_mount_stays_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, target) = (dir.path().join("root"), dir.path().join("t"));
        std::fs::create_dir_all(&target).unwrap();
        mount(&root, "/../../etc/x", &target).unwrap();
        assert_eq!(std::fs::read_link(root.join("etc/x")).unwrap(), target);
    }
}
