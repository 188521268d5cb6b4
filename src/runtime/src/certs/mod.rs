//! Certificates of the traffic between routers, agents and units: mutual TLS, checked by the name in the certificate
//! and never by the address that was dialled.

mod files;
mod issue;
mod names;

pub use files::{CertError, PeerStream, TlsFiles, peer_names};
pub use issue::{Ca, IssueError, Issued, validity};
pub use names::{agent_name, router_name, router_unit};
