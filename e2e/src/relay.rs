//! What passes between two ends of a connection, and how: at once, slowly, one way only, or not at all. Connections stay open
//! whatever happens to what they carry, and what was kept back arrives once it passes again: a network that heals sends again
//! what it had lost.

use anyhow::Result;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// How bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// At once.
    AtOnce,
    /// Each piece arrives later, and no more than so many bytes a second in each direction.
    Slowly {
        /// How much later.
        delay: Duration,
        /// How many bytes of each connection.
        bytes_per_second: u32,
    },
    /// What is asked arrives, and no answer does: the connection is half open.
    AnswersLost,
    /// Nothing arrives, and nobody is told. New connections are taken, and carry nothing either.
    Nothing,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Towards {
    Server,
    Client,
}

impl Pass {
    /// How long it takes `bytes` to pass; `None` while they do not.
    fn takes(self, bytes: usize, towards: Towards) -> Option<Duration> {
        match (self, towards) {
            (Self::AtOnce, Towards::Server | Towards::Client) | (Self::AnswersLost, Towards::Server) => {
                Some(Duration::ZERO)
            }
            (
                Self::Slowly {
                    delay,
                    bytes_per_second,
                },
                Towards::Server | Towards::Client,
            ) => Some(delay + Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second))),
            (Self::AnswersLost, Towards::Client) | (Self::Nothing, Towards::Server | Towards::Client) => None,
        }
    }
}

/// Passes on what both ends of a connection say, beginning with `first` from the client, until one of them ends it.
///
/// # Errors
///
/// Where one end breaks.
pub async fn pass_on(client: TcpStream, server: TcpStream, first: &[u8], pass: watch::Receiver<Pass>) -> Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    to_server.write_all(first).await?;
    tokio::try_join!(
        pump(from_client, to_server, Towards::Server, pass.clone()),
        pump(from_server, to_client, Towards::Client, pass)
    )?;
    Ok(())
}

/// Waits until something passes in both directions: whoever connects is kept waiting till then.
///
/// # Errors
///
/// Where nobody can let it pass any more.
pub async fn open(pass: &mut watch::Receiver<Pass>) -> Result<()> {
    pass.wait_for(|pass| pass.takes(0, Towards::Client).is_some()).await?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    towards: Towards,
    mut pass: watch::Receiver<Pass>,
) -> Result<()> {
    let mut bytes = [0_u8; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        let now = *pass.wait_for(|pass| pass.takes(read, towards).is_some()).await?;
        if let Some(time) = now.takes(read, towards).filter(|time| !time.is_zero()) {
            tokio::time::sleep(time).await;
        }
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&bytes[..read]).await?;
    }
}
