//! The wire between the hub and a member's cluster, which can be cut: API servers are reached through it, by the hub's operator
//! and by the member's agents, and nothing else is. Databases, links and routers of both regions go on as though nothing was.

use crate::kube_ext::wait_for;
use crate::region::SYSTEM;
use crate::relay::{Pass, open, pass_on};
use crate::stage::{LIMIT, Stage};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use multiactive_api::{HUB_ACCESS_KEY, HUB_ACCESS_SECRET};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A wire. It has to live as long as the stage: without it neither side finds the other again.
pub struct Wire {
    pass: watch::Sender<Pass>,
    /// To the member, and to the hub.
    relays: [Relay; 2],
}

/// One direction: connections of who asks, to the server that is asked.
struct Relay {
    url: String,
    /// How many connections were taken.
    taken: watch::Receiver<usize>,
    _task: AbortOnDropHandle<()>,
}

impl Wire {
    /// Puts a wire between the hub and a region, and waits until both sides use it.
    ///
    /// # Errors
    ///
    /// Where the way to one of the servers cannot be read or changed, or is not taken in time.
    pub async fn to(stage: &Stage, region: &str) -> Result<Self> {
        let hub = stage.world.clusters.first().context("the hub")?;
        let mut clusters = stage.world.clusters.iter();
        let member = clusters
            .find(|cluster| cluster.name() == region)
            .context("the member")?;
        let pass = watch::Sender::new(Pass::AtOnce);
        let wire = Self {
            relays: [
                Relay::to(&member.server(), pass.subscribe()).await?,
                Relay::to(&hub.server(), pass.subscribe()).await?,
            ],
            pass,
        };
        let there = stage.region(region)?.client().await?;
        let [to_member, to_hub] = &wire.relays;
        let known = format!("member-{region}");
        leads(&stage.hub, &known, "kubeconfig", (&member.server(), &to_member.url)).await?;
        leads(&there, HUB_ACCESS_SECRET, HUB_ACCESS_KEY, (&hub.server(), &to_hub.url)).await?;
        for relay in &wire.relays {
            let mut taken = relay.taken.clone();
            let used = tokio::time::timeout(LIMIT, taken.wait_for(|taken| *taken > 0));
            used.await.context("nobody uses the wire")??;
        }
        Ok(wire)
    }

    /// From now on nothing arrives any more, and nobody is told: connections stay open, new ones too.
    pub fn cut(&self) {
        self.pass.send_replace(Pass::Nothing);
    }

    /// All goes on, and what was on its way arrives late.
    pub fn mend(&self) {
        self.pass.send_replace(Pass::AtOnce);
    }
}

/// Lets a kubeconfig in a Secret lead another way, as a person does who edits it.
async fn leads(client: &Client, secret: &str, key: &str, (from, to): (&str, &str)) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let text = wait_for(&secrets, secret, LIMIT, |secret| {
        secret.data.as_ref()?.get(key).map(|text| text.0.clone())
    });
    let text = String::from_utf8(text.await?)?;
    ensure!(text.contains(from), "Secret {secret} does not lead to {from}");
    let changed = json!({"stringData": {key: text.replace(from, to)}});
    let params = PatchParams::default();
    secrets.patch(secret, &params, &Patch::Merge(&changed)).await?;
    Ok(())
}

impl Relay {
    /// A relay on loopback to the server at `url`.
    async fn to(url: &str, pass: watch::Receiver<Pass>) -> Result<Self> {
        let server = url.strip_prefix("https://").context("a URL of a server")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let (taken, counted) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                taken.send_modify(|taken| *taken += 1);
                tokio::spawn(connection(here, server.clone(), pass.clone()));
            }
        });
        Ok(Self {
            url,
            taken: counted,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

async fn connection(here: TcpStream, server: String, mut pass: watch::Receiver<Pass>) -> Result<()> {
    open(&mut pass).await?;
    pass_on(here, TcpStream::connect(server).await?, &[], pass).await
}
