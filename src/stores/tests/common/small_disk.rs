//! A small file system of the test's own, on which a database runs out of space. It is mounted where nobody else sees it, and is
//! gone with the test's process, however that ends. Only root may mount.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set where a test runs in a mount namespace of its own.
const INSIDE: &str = "MULTIACTIVE_TEST_INSIDE";

/// Runs a test of this program again where it may mount, and passes its failure on; whether this is that run.
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("left out: only root may mount a small file system");
        return false;
    }
    let again = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&again.stdout),
        String::from_utf8_lossy(&again.stderr),
    );
    println!("{said}{complained}");
    // None of this name counts as success, too.
    let passed = again.status.success() && said.contains("1 passed");
    assert!(passed, "{test} failed where it may mount");
    false
}

pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Of 32 MiB, and owned by the user of a process.
    pub fn of(pid: i32) -> Self {
        let owner = std::fs::metadata(format!("/proc/{pid}")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size=32m,mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(dir.path())
            .status();
        assert!(mount.unwrap().success());
        let disk = Self(dir);
        // Whoever runs as another user passes through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(disk.0.path(), open).unwrap();
        disk
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves no space.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for piece in [64 * 1024, 512] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
    }

    /// Somebody makes room.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
