//! Printing: a closed pipe ends the output and nothing else, colours only where a terminal shows them, columns as
//! kubectl aligns them, and the documented envelope for scripts.

use crate::cli::Output;
use crate::fail::{Failure, Result};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};

/// The version of the shapes that `-o json` and `-o yaml` print. Later versions only add.
pub const SHAPE: &str = "cli.multiactive.io/v1alpha1";

/// Writes to standard output.
///
/// # Errors
///
/// [`Failure::Closed`] where nobody reads it.
pub fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() == ErrorKind::BrokenPipe {
        true => Failure::Closed,
        false => Failure::error(format!("writing the output: {error}")),
    })
}

/// Writes a line to standard error; nobody is told where that is closed.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What is printed for scripts: the view with `apiVersion` and `kind`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, T> {
    api_version: &'static str,
    kind: &'a str,
    #[serde(flatten)]
    view: &'a T,
}

/// A view as one line of JSON, for streams.
///
/// # Errors
///
/// As [`out`].
pub fn json_line<T: Serialize>(kind: &str, view: &T) -> Result<()> {
    let text = serde_json::to_string(&envelope(kind, view)).map_err(Failure::error)?;
    out(&format!("{text}\n"))
}

/// Prints a view: `table` makes the text for people, with or without what only wide screens show.
///
/// # Errors
///
/// As [`out`].
pub fn view<T: Serialize>(
    output: Output,
    kind: &str,
    view: &T,
    table: impl FnOnce(Paint, bool) -> String,
) -> Result<()> {
    match output {
        Output::Table => out(&table(Paint::stdout(), false)),
        Output::Wide => out(&table(Paint::stdout(), true)),
        Output::Json => {
            let text = serde_json::to_string_pretty(&envelope(kind, view)).map_err(Failure::error)?;
            out(&format!("{text}\n"))
        }
        Output::Yaml => out(&serde_yaml::to_string(&envelope(kind, view)).map_err(Failure::error)?),
    }
}

fn envelope<'a, T>(kind: &'a str, view: &'a T) -> Envelope<'a, T> {
    Envelope {
        api_version: SHAPE,
        kind,
        view,
    }
}

/// How a text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Not yet, or worth a look.
    Warn,
    /// Something is wrong.
    Bad,
    /// Less important.
    Faint,
    /// A heading.
    Bold,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// Without colours.
    pub const OFF: Self = Self(false);

    /// For standard output: colours on a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    pub fn stdout() -> Self {
        Self::on(std::io::stdout().is_terminal())
    }

    /// For standard error, alike.
    pub fn stderr() -> Self {
        Self::on(std::io::stderr().is_terminal())
    }

    fn on(terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(terminal && !set("NO_COLOR") && !dumb)
    }

    /// The text in its colour.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Bold => "1",
        };
        if self.0 && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell of this tone.
    pub fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::of(Tone::Plain, text)
    }
}

/// Columns as kubectl aligns them: three blanks apart, none at the end of a line. An empty cell stays empty.
pub fn columns(paint: Paint, header: &[&str], rows: &[Vec<Cell>]) -> String {
    let head: Vec<Cell> = header.iter().map(|title| Cell::of(Tone::Faint, *title)).collect();
    let all: Vec<&[Cell]> = std::iter::once(head.as_slice())
        .chain(rows.iter().map(Vec::as_slice))
        .collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| console::measure_text_width(&cell.text))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let mut blanks = 0;
        for (cell, width) in row.iter().zip(&widths) {
            if !cell.text.is_empty() {
                text.extend(std::iter::repeat_n(' ', blanks));
                text.push_str(&paint.tone(cell.tone, &cell.text));
                blanks = 0;
            }
            blanks += width + 3 - console::measure_text_width(&cell.text);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_colours_and_end_without_blanks() {
        let rows = [
            vec!["├─ ü".into(), Cell::of(Tone::Bad, "False"), "".into()],
            vec!["b".into(), "".into(), "why".into()],
        ];
        let plain = columns(Paint::OFF, &["NAME", "READY", "WHY"], &rows);
        assert_eq!(plain, "NAME   READY   WHY\n├─ ü   False\nb              why\n");
        let coloured = columns(Paint(true), &["NAME", "READY", "WHY"], &rows);
        assert_eq!(console::strip_ansi_codes(&coloured), plain);
        assert!(coloured.contains("\x1b[31mFalse\x1b[0m\n"), "{coloured:?}");
    }
}
