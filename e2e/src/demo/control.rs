//! What may be done to a demo's regions while it is up: killed, and started again. The process that keeps the fleet listens on
//! a socket in the demo's folder; a request is one line, and so is the answer.

use super::state;
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// For how long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may become of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// All of it dies, its database as by a power failure.
    Kill,
    /// It comes up again, with what was on its disks.
    Start,
}

impl Act {
    const ALL: [Self; 2] = [Self::Kill, Self::Start];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Start => "start",
        }
    }
}

/// The socket of the demo in `dir`, by a path that is never too long for one; it counts while the folder is open.
fn socket(dir: &Path) -> Result<(File, PathBuf)> {
    let folder = File::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    let path = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), state::SOCKET);
    Ok((folder, path.into()))
}

/// Answers until it is dropped.
///
/// # Errors
///
/// Where the socket cannot be used.
pub async fn serve(dir: &Path, world: &World) -> Result<()> {
    let (_folder, path) = socket(dir)?;
    let listener = UnixListener::bind(path).with_context(|| format!("listening in {}", dir.display()))?;
    loop {
        // One after the other: two who kill and start the same region would be in each other's way.
        let answered = match listener.accept().await {
            Ok((stream, _)) => answer(stream, world).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = answered {
            tracing::warn!("a request was not answered: {error:#}");
        }
    }
}

async fn answer(mut stream: UnixStream, world: &World) -> Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(&mut stream);
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line))
        .await
        .context("nobody said what to do")??;
    let answer = match obey(line.trim(), world).await {
        Ok(()) => "done\n".to_owned(),
        Err(error) => format!("{error:#}\n"),
    };
    Ok(stream.write_all(answer.as_bytes()).await?)
}

async fn obey(line: &str, world: &World) -> Result<()> {
    let (word, name) = line.split_once(' ').context("expected an act and a region")?;
    let act = Act::ALL.into_iter().find(|act| act.word() == word);
    let act = act.with_context(|| format!("there is no act {word}"))?;
    let hub = world.regions.first().map(|region| region.name.as_str());
    ensure!(
        hub != Some(name),
        "{name} is the hub: this demo cannot go on without it"
    );
    match act {
        Act::Kill => world.kill(name).await,
        Act::Start => world.revive(name).await,
    }
}

/// Has a region of the demo in `dir` killed or started, and returns when that is done.
///
/// # Errors
///
/// Where no demo is up there, or what it says.
pub async fn ask(dir: &Path, act: Act, region: &str) -> Result<()> {
    ensure!(state::running(dir).is_some(), "no demo is up in {}", dir.display());
    let (_folder, path) = socket(dir)?;
    let stream = UnixStream::connect(path).await;
    let mut stream = stream.with_context(|| format!("asking the demo in {}", dir.display()))?;
    stream
        .write_all(format!("{} {region}\n", act.word()).as_bytes())
        .await?;
    let mut answer = String::new();
    BufReader::new(&mut stream).read_line(&mut answer).await?;
    match answer.trim() {
        "done" => Ok(()),
        "" => bail!("the fleet ended meanwhile"),
        why => bail!("{why}"),
    }
}
