//! What every binary of multiactive needs at run time: logs, events, shutdown, probes and metrics, certificates, clients
//! of API servers and watches that never end. No decision about ownership is made here.

pub mod certs;
pub mod clock;
pub mod events;
pub mod failpoint;
pub mod kube_client;
pub mod logs;
pub mod metrics;
pub mod paths;
pub mod probes;
pub mod shutdown;
pub mod watch;

pub use paths::pod_path;
