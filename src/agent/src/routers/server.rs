//! The listener for routers: mutual TLS, JSON lines. It checks who speaks and passes on what is said.

use super::answer::answer;
use super::{RouterHub, Session, UnitKey};
use crate::lease::{Board, Boards};
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use multiactive_core::wire::{AgentToRouter, Applied, MAX_LINE, PROTOCOL, RouterHello, RouterToAgent};
use multiactive_runtime::certs::{TlsFiles, peer_names, router_name};
use std::future::Future;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest time for TLS and hello, and for one line to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection ended otherwise than by a goodbye.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("TLS")]
    Tls(#[source] std::io::Error),
    #[error("no word within {PATIENCE:?}")]
    Silent,
    #[error("it closed the connection")]
    Closed,
    #[error("a line cannot be read or written")]
    Line(#[source] LinesCodecError),
    #[error("a line is not of this protocol")]
    Words(#[source] serde_json::Error),
    #[error("it speaks protocol {0}, this agent {PROTOCOL}")]
    Protocol(u32),
    #[error("it says that it is a router of {claimed}, but its certificate is for {names:?}")]
    Impostor { claimed: UnitKey, names: Vec<String> },
}

type Lines = Framed<TlsStream<TcpStream>, LinesCodec>;

/// Serves routers until `token` is cancelled; returns when every connection has ended.
pub async fn serve(listener: TcpListener, tls: TlsFiles, (hub, leases): (RouterHub, Boards), token: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(accepted) = token.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, from)) => {
                let (tls, hub, leases, token) = (tls.clone(), hub.clone(), leases.clone(), token.clone());
                connections.spawn(async move {
                    let ended = token
                        .run_until_cancelled(connection(stream, &tls, (&hub, &leases)))
                        .await;
                    if let Some(Err(ended)) = ended {
                        let error = &ended as &dyn std::error::Error;
                        tracing::warn!(%from, error, "a router's connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "accepting a router");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, tls: &TlsFiles, (hub, leases): (&RouterHub, &Boards)) -> Result<(), Ended> {
    let stream = in_time(tls.accept(stream)).await?.map_err(Ended::Tls)?;
    let names = peer_names(stream.get_ref().1);
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let line = in_time(lines.next()).await?;
    let hello: RouterHello = words(line)?;
    if hello.protocol != PROTOCOL {
        return Err(Ended::Protocol(hello.protocol));
    }
    let key = UnitKey {
        namespace: hello.namespace,
        unit: hello.unit,
    };
    let demanded = router_name(&key.unit, &key.namespace);
    if !names.iter().any(|name| name.eq_ignore_ascii_case(&demanded)) {
        return Err(Ended::Impostor { claimed: key, names });
    }
    let unit = hub.unit(&key);
    let session = unit.enter(&hello.router);
    let (namespace, unit_name, router) = (&key.namespace, &key.unit, &hello.router);
    tracing::info!(namespace, unit = unit_name, router, "router connected");
    let said = converse(&mut lines, &session, unit.applied.subscribe(), &leases.unit(&key)).await;
    if said.is_ok() {
        tracing::info!(namespace, unit = unit_name, router, "router said goodbye");
    }
    said
}

/// Passes words both ways until the router says goodbye.
async fn converse(
    lines: &mut Lines,
    session: &Session,
    mut applied: watch::Receiver<Applied>,
    lease: &Board,
) -> Result<(), Ended> {
    tell(lines, &AgentToRouter::Answers).await?;
    applied.mark_changed();
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            line = lines.next() => match words(line)? {
                RouterToAgent::Report(report) => session.report(report),
                RouterToAgent::Goodbye => {
                    session.goodbye();
                    return Ok(());
                }
                RouterToAgent::Ask { id, question } => answers.push(async move { (id, answer(&question, lease).await) }),
            },
            Some((id, answer)) = answers.next() => if let Some(answer) = answer {
                tell(lines, &AgentToRouter::Answer { id, answer }).await?;
            },
            changed = applied.changed() => {
                let told = applied.borrow_and_update().clone();
                if changed.is_ok() && told != Applied::default() {
                    tell(lines, &AgentToRouter::Applied(told)).await?;
                }
            }
        }
    }
}

async fn tell(lines: &mut Lines, word: &AgentToRouter) -> Result<(), Ended> {
    let line = serde_json::to_string(word).map_err(Ended::Words)?;
    in_time(lines.send(line)).await?.map_err(Ended::Line)
}

fn words<T: serde::de::DeserializeOwned>(line: Option<Result<String, LinesCodecError>>) -> Result<T, Ended> {
    let line = line.ok_or(Ended::Closed)?.map_err(Ended::Line)?;
    serde_json::from_str(&line).map_err(Ended::Words)
}

async fn in_time<T>(what: impl Future<Output = T>) -> Result<T, Ended> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| Ended::Silent)
}
