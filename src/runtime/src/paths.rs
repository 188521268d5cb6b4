//! Paths of a pod's volumes, also where the pod is a process of the local fleet.

use std::path::{Path, PathBuf};

/// The variable under which a pod's volumes lie; empty or absent in real pods.
pub const POD_ROOT: &str = "POD_ROOT";

/// `path` as the pod sees it: below `$POD_ROOT` where that is set.
///
/// It also finds the mounts of a pod by their absolute paths: `/etc/multiactive/tls` becomes
/// `$POD_ROOT/etc/multiactive/tls`.
pub fn pod_path(path: impl AsRef<Path>) -> PathBuf {
    below(std::env::var_os(POD_ROOT).as_deref().map(Path::new), path.as_ref())
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root.filter(|root| !root.as_os_str().is_empty()) {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_path_lies_below_its_root_and_is_itself_in_a_real_pod() {
        for (root, path, want) in [
            (None, "/etc/tls", "/etc/tls"),
            (Some(""), "/etc/tls", "/etc/tls"),
            (Some("/pods/a"), "/etc/tls", "/pods/a/etc/tls"),
            (Some("/pods/a"), "tls", "/pods/a/tls"),
        ] {
            assert_eq!(
                below(root.map(Path::new), Path::new(path)),
                Path::new(want),
                "{root:?} {path}"
            );
        }
    }
}
