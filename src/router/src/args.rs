//! The command line, each flag also by environment.

use crate::limits::Limits;
use clap::Parser;
use multiactive_api::convert::parse_duration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Routes each request to the unit that owns its key.
#[derive(Clone, Debug, Parser)]
#[command(name = "multiactive-router", version)]
pub struct Args {
    /// The unit that this router belongs to.
    #[arg(long, env = "MULTIACTIVE_UNIT")]
    pub unit: String,
    /// The namespace of the unit.
    #[arg(long, env = "MULTIACTIVE_NAMESPACE")]
    pub namespace: String,
    /// The router's own name, its pod's: unique in the unit.
    #[arg(long, env = "MULTIACTIVE_NAME")]
    pub name: String,
    /// The agent of the cluster, host:port.
    #[arg(long, env = "MULTIACTIVE_AGENT")]
    pub agent: String,
    /// The folder with ca.crt, tls.crt and tls.key.
    #[arg(long, env = "MULTIACTIVE_TLS_DIR", default_value = "/etc/multiactive/tls")]
    pub tls_dir: PathBuf,
    /// The folder in which the last assignment and table are kept for a restart.
    #[arg(long, env = "MULTIACTIVE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where clients connect.
    #[arg(long, env = "MULTIACTIVE_LISTEN", default_value = "0.0.0.0:8000")]
    pub listen: SocketAddr,
    /// Where the other units' routers connect.
    #[arg(long, env = "MULTIACTIVE_PEER_LISTEN", default_value = "0.0.0.0:8443")]
    pub peer_listen: SocketAddr,
    /// Probes, metrics and /route.
    #[arg(long, env = "MULTIACTIVE_ADMIN_LISTEN", default_value = "0.0.0.0:8080")]
    pub admin_listen: SocketAddr,
    /// Threads that serve requests; 0 means one for each core.
    #[arg(long, env = "MULTIACTIVE_WORKERS", default_value_t = 0)]
    pub workers: usize,
    /// The longest time that a request is held.
    #[arg(long, env = "MULTIACTIVE_HOLD_TIME", default_value = "45s", value_parser = duration)]
    pub hold_time: Duration,
    /// How many requests are held at most.
    #[arg(long, env = "MULTIACTIVE_HOLD_REQUESTS", default_value_t = 10_000)]
    pub hold_requests: usize,
    /// Bytes of one held or forwarded body that are kept, so that it can be sent again.
    #[arg(long, env = "MULTIACTIVE_KEPT_PER_REQUEST", default_value_t = 1 << 20)]
    pub kept_per_request: usize,
    /// Bytes of all kept bodies together.
    #[arg(long, env = "MULTIACTIVE_KEPT_TOTAL", default_value_t = 64 << 20)]
    pub kept_total: usize,
    /// The longest time until a backend's answer begins.
    #[arg(long, env = "MULTIACTIVE_ANSWER_TIME", default_value = "60s", value_parser = duration)]
    pub answer_time: Duration,
    /// Bytes of a request's line and headers at most.
    #[arg(long, env = "MULTIACTIVE_HEADER_BYTES", default_value_t = 32 << 10)]
    pub header_bytes: usize,
    /// How long idle connections to backends are kept: less than the backends keep theirs.
    #[arg(long, env = "MULTIACTIVE_BACKEND_IDLE", default_value = "4s", value_parser = duration)]
    pub backend_idle: Duration,
    /// After SIGTERM, how long new connections are still accepted while the router is not ready any more.
    #[arg(long, env = "MULTIACTIVE_DRAIN_DELAY", default_value = "2s", value_parser = duration)]
    pub drain_delay: Duration,
    /// After that, how long requests under way may take.
    #[arg(long, env = "MULTIACTIVE_DRAIN_TIME", default_value = "25s", value_parser = duration)]
    pub drain_time: Duration,
}

impl Args {
    /// The limits that the flags set.
    pub fn limits(&self) -> Limits {
        Limits {
            hold_time: self.hold_time,
            hold_requests: self.hold_requests,
            kept_per_request: self.kept_per_request,
            kept_total: self.kept_total,
            answer_time: self.answer_time,
            header_bytes: self.header_bytes,
            backend_idle: self.backend_idle,
            ..Limits::default()
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration("duration", text).map_err(|error| error.to_string())?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}
