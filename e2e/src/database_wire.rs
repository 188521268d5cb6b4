//! The wire to a region's database, on the region's address: the server itself listens elsewhere. Sessions are told apart by
//! the user with whom they begin, so the way of the unit's own agent and that of the other units can be lost each by itself. The
//! shop's sessions and those of the administrator always pass.

use crate::region::Engine;
use crate::relay::{Pass, open, pass_on};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The user of a unit's own agent, and that of the others' links and agents: `roles.sql`.
const AGENT: &str = "multiactive_agent";
const OTHERS: &str = "multiactive_replication";

/// What asks for an encrypted session: <https://www.postgresql.org/docs/18/protocol-message-formats.html>, SSLRequest and
/// GSSENCRequest.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// The longest first message that a server takes: `MAX_STARTUP_PACKET_LENGTH`.
const LONGEST: usize = 10_000;

/// A wire. Without it nobody reaches the server by the region's address.
#[derive(Debug)]
pub struct DatabaseWire {
    ways: Ways,
    _task: AbortOnDropHandle<()>,
}

/// How the sessions of each kind of client pass.
#[derive(Clone, Debug)]
struct Ways {
    agent: watch::Sender<Pass>,
    others: watch::Sender<Pass>,
    everyone_else: watch::Sender<Pass>,
}

impl DatabaseWire {
    /// A wire from `address` to the server of this engine at `server`. What is secret passes as that of everyone else.
    ///
    /// # Errors
    ///
    /// Where the address is taken.
    pub async fn to(address: SocketAddr, server: SocketAddr, engine: Engine) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("a wire at {address}"))?;
        let at_once = || watch::Sender::new(Pass::AtOnce);
        let ways = Ways {
            agent: at_once(),
            others: at_once(),
            everyone_else: at_once(),
        };
        let of_task = ways.clone();
        let task = tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                tokio::spawn(session(here, server, engine, of_task.clone()));
            }
        });
        Ok(Self {
            ways,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// How the sessions of the unit's own agent pass from now on, those that stand too.
    pub fn agent(&self, pass: Pass) {
        self.ways.agent.send_replace(pass);
    }

    /// How those of the other units' links and agents pass.
    pub fn others(&self, pass: Pass) {
        self.ways.others.send_replace(pass);
    }
}

async fn session(mut here: TcpStream, server: SocketAddr, engine: Engine, ways: Ways) -> Result<()> {
    match engine {
        Engine::PostgreSql => {
            let first = first_message(&mut here).await?;
            let mut way = ways.of(user(&first));
            open(&mut way).await?;
            pass_on(here, TcpStream::connect(server).await?, &first, way).await
        }
        // There the server speaks first, and always gets so far.
        Engine::MariaDb | Engine::MySql => {
            let mut there = TcpStream::connect(server).await?;
            let greeting = packet(&mut there).await?;
            here.write_all(&greeting).await?;
            let first = packet(&mut here).await?;
            let mut way = ways.of(user_of_packet(&first));
            open(&mut way).await?;
            pass_on(here, there, &first, way).await
        }
    }
}

impl Ways {
    fn of(&self, user: Option<&str>) -> watch::Receiver<Pass> {
        match user {
            Some(AGENT) => self.agent.subscribe(),
            Some(OTHERS) => self.others.subscribe(),
            Some(_) | None => self.everyone_else.subscribe(),
        }
    }
}

/// The message with which a session begins; whoever asks for an encrypted one is told that there is none.
async fn first_message(here: &mut TcpStream) -> Result<Vec<u8>> {
    loop {
        let length = here.read_u32().await?;
        let rest = (length as usize).checked_sub(8).context("a message of no length")?;
        ensure!(rest <= LONGEST, "a first message of {length} bytes");
        let code = here.read_u32().await?;
        let mut message = [length.to_be_bytes(), code.to_be_bytes()].concat();
        if ENCRYPTION.contains(&code) {
            here.write_all(b"N").await?;
            continue;
        }
        let head = message.len();
        message.resize(head + rest, 0);
        here.read_exact(&mut message[head..]).await?;
        return Ok(message);
    }
}

/// The user of a first message, which has names and values, each with a zero behind it; a request to cancel has none.
fn user(first: &[u8]) -> Option<&str> {
    let words: Vec<&[u8]> = first.get(8..)?.split(|byte| *byte == 0).collect();
    let mut pairs = words.chunks_exact(2);
    let found = pairs.find(|pair| pair.first() == Some(&b"user".as_slice()))?;
    std::str::from_utf8(found.get(1)?).ok()
}

/// A packet of the protocol of MariaDB and MySQL: its length, a number, and what it says.
async fn packet(from: &mut TcpStream) -> Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    ensure!(length <= LONGEST, "a first packet of {length} bytes");
    packet.resize(4 + length, 0);
    from.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// The user of the packet with which a client begins, behind what it is able to and 23 bytes that say nothing:
/// <https://mariadb.com/kb/en/connection/#handshake-response-packet>.
fn user_of_packet(first: &[u8]) -> Option<&str> {
    let user = first.get(4 + 32..)?.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(user).ok()
}
