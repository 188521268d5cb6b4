//! `fleet logs`: the file behind a part's or a pod's name, printed and followed.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use multiactive_fleet::state::State;
use multiactive_fleet::supervisor;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The cluster, or `postgres`.
    cluster: String,
    /// A part (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok), a pod ([namespace/]name, of which
    /// the beginning is enough), or the name of a PostgreSQL server.
    part: String,
    /// Go on as the log grows.
    #[arg(long, short)]
    follow: bool,
    /// Which fleet; not needed when there is only one.
    #[arg(long)]
    name: Option<String>,
}

pub(crate) async fn run(logs: Logs) -> Result<()> {
    let state = supervisor::find(&super::one(logs.name.clone())?)?;
    let path = find(&state, &logs.cluster, &logs.part)?;
    let mut file = std::fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    loop {
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let written = std::io::stdout()
            .write_all(&text)
            .and_then(|()| std::io::stdout().flush());
        if written.is_err() || !logs.follow {
            return Ok(()); // a reader that has seen enough is no error
        }
        // A file that shrank was begun anew.
        let length = std::fs::metadata(&path).map(|meta| meta.len()).unwrap_or(0);
        if length < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn find(state: &State, cluster: &str, part: &str) -> Result<PathBuf> {
    if let Some(record) = state.clusters.get(cluster) {
        let own = record.dir.join("logs").join(format!("{part}.log"));
        if own.is_file() {
            return Ok(own);
        }
        let (namespace, pod) = part
            .split_once('/')
            .map_or((None, part), |(namespace, pod)| (Some(namespace), pod));
        let dir = record.dir.join("node/logs");
        return newest(&dir, namespace, pod).with_context(|| {
            format!(
                "cluster {cluster} has no part and no pod with logs named {part}; pods with logs: {}",
                pods(&dir)
            )
        });
    }
    if let Some(record) = state.postgres.get(part).filter(|_| cluster == "postgres") {
        return Ok(record.dir.join("server.log"));
    }
    let known: Vec<&str> = state.clusters.keys().map(String::as_str).collect();
    let servers: Vec<&str> = state.postgres.keys().map(String::as_str).collect();
    bail!(
        "no cluster {cluster}: there are {}; and postgres with {}",
        known.join(", "),
        servers.join(", ")
    )
}

/// Namespace, pod and container of a log file.
fn parse(path: &Path) -> Option<(String, String, String)> {
    let mut words = path.file_name()?.to_str()?.strip_suffix(".log")?.split('_');
    Some((
        words.next()?.to_owned(),
        words.next()?.to_owned(),
        words.next()?.to_owned(),
    ))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

/// The log written last of the pods whose name begins so.
fn newest(dir: &Path, namespace: Option<&str>, pod: &str) -> Option<PathBuf> {
    let matches = |path: &PathBuf| {
        parse(path).is_some_and(|(ns, name, _)| namespace.is_none_or(|wanted| wanted == ns) && name.starts_with(pod))
    };
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    files(dir).into_iter().filter(matches).max_by_key(written)
}

fn pods(dir: &Path) -> String {
    let mut names: Vec<String> = files(dir)
        .iter()
        .filter_map(|path| parse(path))
        .map(|(namespace, pod, _)| format!("{namespace}/{pod}"))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
