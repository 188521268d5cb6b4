//! Logs: text for people, JSON for machines.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The variable that chooses the format: `json` or `text`. Without it, text on a terminal and JSON elsewhere.
pub const FORMAT: &str = "MULTIACTIVE_LOG_FORMAT";

/// kube's client logs each failed request as an error of its own; whoever asked logs it, too, and knows what it means.
const DEFAULT: &str = "info,kube_client::client=off";

/// Starts logging to stderr. `RUST_LOG` filters (default `info`); a second call does nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let json = match std::env::var(FORMAT).as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok(_) | Err(_) => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error means that a subscriber is already set, which tests do.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(true).try_init()
    } else {
        builder.try_init()
    };
}
