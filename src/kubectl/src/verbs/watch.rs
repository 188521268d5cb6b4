//! `watch`: what happens, as it happens. Lines where nobody looks, a screen that is redrawn where somebody does.

use crate::cli::{Global, Output, WatchArgs};
use crate::client::Session;
use crate::fail::{Exit, Result};
use crate::fetch::{self, World};
use crate::follow::line;
use crate::interrupt::Interrupts;
use crate::print::{self, Paint, Tone, note};
use crate::view::steps::Change;
use crate::view::{changes, status, status_text};
use crate::watching::{News, Watching};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

/// How many changes stay on the screen.
const KEPT: usize = 200;
/// The screen's own buffer, so that what was there before comes back; and the cursor, which would only jump about.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// How often the times on the screen are drawn anew. Nothing is asked for that.
const REDRAW: Duration = Duration::from_secs(1);

/// Shows it until it is interrupted.
///
/// # Errors
///
/// Where the watches cannot begin.
pub async fn run(global: &Global, args: WatchArgs) -> Result<Exit> {
    let session = Session::open(global).await?;
    let namespace = (!args.namespaces.all).then(|| session.namespace.clone());
    let mut interrupts = Interrupts::listen()?;
    let people = matches!(global.output, Output::Table | Output::Wide);
    let screen = people && std::io::stdout().is_terminal();
    let mut watching = Watching::start(&session, namespace.as_deref());
    let mut shown = Shown::new(screen, global.output);
    let result = tokio::select! {
        exit = interrupts.recv() => Ok(exit),
        result = show(&session, namespace.as_deref(), &mut watching, &mut shown) => result.map(|()| Exit::Ok),
    };
    shown.leave();
    result
}

async fn show(session: &Session, namespace: Option<&str>, watching: &mut Watching, shown: &mut Shown) -> Result<()> {
    let mut before: Option<World> = None;
    let mut clock = tokio::time::interval(REDRAW);
    loop {
        let news = tokio::select! {
            news = watching.next(session) => news?,
            _ = clock.tick(), if shown.screen => {
                if let Some(world) = &before {
                    shown.draw(world)?;
                }
                continue;
            }
        };
        let now = Timestamp::now();
        match news {
            News::NotYet => {}
            News::Trouble(trouble) => shown.trouble(&trouble, now)?,
            News::World(world) => {
                if let (None, Some(namespace), true) = (&before, namespace, world.has_no_deployment()) {
                    return Err(fetch::nothing_here(session, namespace, "has no deployment of multiactive").await);
                }
                match &before {
                    None => shown.first(&world, now)?,
                    Some(before) => shown.changes(changes::changes(before, &world, now), &world)?,
                }
                before = Some(*world);
            }
        }
    }
}

/// What is on the screen, or was printed.
struct Shown {
    screen: bool,
    entered: bool,
    output: Output,
    lines: VecDeque<String>,
}

impl Shown {
    fn new(screen: bool, output: Output) -> Self {
        Self {
            screen,
            entered: false,
            output,
            lines: VecDeque::new(),
        }
    }

    fn first(&mut self, world: &World, now: Timestamp) -> Result<()> {
        if self.screen {
            self.entered = true;
            print::out(ENTER)?;
            return self.draw(world);
        }
        let view = status::status(world, &[], now);
        match self.output {
            Output::Json | Output::Yaml => print::json_line("Status", &view),
            Output::Table | Output::Wide => print::out(&status_text::text(&view, Paint::stdout(), false)),
        }
    }

    fn changes(&mut self, changes: Vec<Change>, world: &World) -> Result<()> {
        for change in &changes {
            match (self.screen, self.output) {
                (true, _) => self.keep(line(change, Paint::stdout(), true)),
                (false, Output::Json | Output::Yaml) => print::json_line("Change", change)?,
                (false, Output::Table | Output::Wide) => print::out(&line(change, Paint::stdout(), true))?,
            }
        }
        if self.screen { self.draw(world) } else { Ok(()) }
    }

    fn trouble(&mut self, trouble: &str, now: Timestamp) -> Result<()> {
        if self.screen {
            let at = now.strftime("%H:%M:%S");
            self.keep(format!("{at}  {}\n", Paint::stdout().tone(Tone::Warn, trouble)));
        } else {
            note(&format!("watching anew: {trouble}"));
        }
        Ok(())
    }

    fn keep(&mut self, line: String) {
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// The status above, the newest changes below, as many as there is room for.
    fn draw(&self, world: &World) -> Result<()> {
        let (rows, columns) = console::Term::stdout().size();
        let (rows, columns) = (usize::from(rows.max(5)), usize::from(columns.max(20)));
        let view = status::status(world, &[], Timestamp::now());
        let status = status_text::text(&view, Paint::stdout(), self.output == Output::Wide);
        let changes: Vec<&str> = self.lines.iter().map(|line| line.trim_end()).collect();
        print::out(&frame(&status, &changes, rows, columns))
    }

    fn leave(&mut self) {
        if self.entered {
            let _ = print::out(LEAVE);
        }
    }
}

/// A screen of `rows` by `columns`, drawn over the last one without clearing it first, so that nothing flickers.
fn frame(status: &str, changes: &[&str], rows: usize, columns: usize) -> String {
    let status: Vec<&str> = status.lines().collect();
    // At least a third of the screen is for what changes.
    let room = rows.saturating_sub(1);
    let below = match changes.len() {
        0 => 0,
        changes => (room / 3).min(changes) + 1,
    };
    let top = status.len().min(room.saturating_sub(below));
    let left = room.saturating_sub(top + 1);
    let newest = &changes[changes.len().saturating_sub(left)..];
    let mut text = "\x1b[H".to_owned();
    let blank = if newest.is_empty() { None } else { Some("") };
    for line in status[..top].iter().copied().chain(blank).chain(newest.iter().copied()) {
        text.push_str(&console::truncate_str(line, columns, "…"));
        text.push_str("\x1b[K\r\n");
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen_and_keeps_the_newest_changes() {
        let status: String = (0..40)
            .map(|line| format!("status {line} with a long tail\n"))
            .collect();
        let changes: Vec<String> = (0..40).map(|line| format!("change {line}")).collect();
        let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
        for (rows, columns) in [(24, 80), (5, 20), (10, 12)] {
            let text = frame(&status, &changes, rows, columns);
            assert!(text.matches("\r\n").count() < rows, "{rows}: {text:?}");
            assert!(
                text.contains("change 39") && text.contains("status 0"),
                "{rows}: {text:?}"
            );
            let plain = console::strip_ansi_codes(&text).into_owned();
            assert!(
                plain.lines().all(|line| line.trim_end().chars().count() <= columns),
                "{plain}"
            );
        }
        assert!(!frame("all well\n", &[], 24, 80).contains("change"));
    }
}
