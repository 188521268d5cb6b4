//! What goes on, one line a part: spinners on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use multiactive_fleet::tools::{Tool, ensure_with};

/// A line for each part, in the order in which they are first named.
pub(crate) struct Lines {
    started: Instant,
    terminal: bool,
    all: MultiProgress,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines {
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            all: MultiProgress::new(),
            bars: Mutex::default(),
        }
    }

    /// What a part is doing.
    pub(crate) fn say(&self, part: &str, what: &str) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let new = !bars.contains_key(part);
        let bar = bars.entry(part.to_owned()).or_insert_with(|| self.bar(part));
        // Without a terminal, only the first word of each part: not every package of a build.
        if !self.terminal && new {
            eprintln!("{part}: {what}");
        }
        bar.set_message(what.to_owned());
    }

    /// A part is done.
    pub(crate) fn done(&self, part: &str, what: &str) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(part.to_owned()).or_insert_with(|| self.bar(part));
        if bar.is_finished() {
            return;
        }
        let text = format!("{what} ({:.1} s)", self.started.elapsed().as_secs_f32());
        if !self.terminal {
            eprintln!("{part}: {text}");
        }
        bar.finish_with_message(text);
    }

    fn bar(&self, part: &str) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:24} {wide_msg}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏✓"));
        }
        bar.set_prefix(part.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

/// Builds or unpacks what is missing of `wanted`, and shows it.
pub(crate) async fn ensure(wanted: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = wanted
        .iter()
        .copied()
        .filter(|tool| !tool.path().is_ok_and(|path| path.exists()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let work = move || {
        let lines = Lines::new();
        lines.say("tools", "built once, then cached: this takes minutes");
        for tool in missing {
            ensure_with(tool, &|tool, line| lines.say(tool.program(), line))?;
            lines.done(tool.program(), "ready");
        }
        lines.done("tools", "ready");
        Ok::<_, multiactive_fleet::Error>(())
    };
    tokio::task::spawn_blocking(work)
        .await
        .context("building the tools was interrupted")??;
    Ok(())
}
