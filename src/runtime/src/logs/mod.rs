//! Logs: text for people, JSON for machines.
//!
//! A line of JSON is one flat object: `timestamp`, `level`, `target`, `message`, then the fields of the process, of the
//! spans around it and its own. The same thing has the same name everywhere: `namespace`, `unit`, `store`, `member`,
//! `operation`, `epoch`, `error` (with all its causes).

mod json;

use json::JsonLines;
use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

/// The variable that chooses the format: `json` or `text`. Without it, text on a terminal and JSON elsewhere.
pub const FORMAT: &str = "MULTIACTIVE_LOG_FORMAT";

/// kube's client logs each failed request as an error of its own; whoever asked logs it, too, and knows what it means.
const DEFAULT: &str = "info,kube_client::client=off";

/// What is never logged, whatever is asked for: the driver logs statements as they are sent, and that which makes a link
/// holds a password.
const NEVER: &str = "tokio_postgres=info";

/// Starts logging to stderr. `RUST_LOG` filters (default `info`); a second call does nothing.
pub fn init() {
    init_with(Vec::new());
}

/// As [`init`], with fields that every line of JSON has.
pub fn init_with(of_process: Vec<(&'static str, String)>) {
    let (filter, problem) = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => match EnvFilter::builder().parse(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(DEFAULT), Some((text, error))),
        },
        Ok(_) | Err(_) => (EnvFilter::new(DEFAULT), None),
    };
    // Where less is asked for, it would make the driver louder.
    let loud = filter.max_level_hint().is_none_or(|most| most > LevelFilter::INFO);
    let filter = match NEVER.parse() {
        Ok(never) if loud => filter.add_directive(never),
        // It is a constant, so it is no error.
        Ok(_) | Err(_) => filter,
    };
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
        let format = JsonLines::new(of_process);
        builder.fmt_fields(JsonFields::new()).event_format(format).try_init()
    } else {
        builder.try_init()
    };
    if let Some((text, error)) = problem {
        tracing::warn!(filter = text, %error, "RUST_LOG is no filter, going on with {DEFAULT}");
    }
}
