//! The latency of a load over time, as an SVG: a dot for each order, and above them the steps of what was done meanwhile.

mod labels;

use crate::load::{Attempt, Record};
use anyhow::{Result, anyhow};
use labels::{Label, spread};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fmt::Display;
use std::path::Path;

/// A moment, with a word for it.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When, in milliseconds since the load began.
    pub at_ms: f64,
    /// The word.
    pub label: String,
}

/// Something that went on while orders came in.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its name.
    pub name: String,
    /// Its steps, each with when it was entered.
    pub steps: Vec<Mark>,
    /// From when to when it held writes, in milliseconds since the load began.
    pub held_ms: Option<(f64, f64)>,
}

const SIZE: (u32, u32) = (1200, 690);
const MARGIN: i32 = 20;
/// Above the plot: the title, the names of the operations, their steps.
const TITLE: i32 = 16;
const NAMES: i32 = 54;
const PLOT: u32 = 196;
/// Below it: the axis, then the legend.
const AXIS: u32 = 46;
const LEGEND: u32 = 36;
/// Told apart on white, by the colour-blind too; red is for failures.
const UNITS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 140, 90),
    RGBColor(142, 68, 173),
    RGBColor(200, 120, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
const HELD: RGBColor = RGBColor(240, 173, 78);
const GREY: RGBColor = RGBColor(90, 90, 90);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws every attempt as a dot by the unit that took it, failures as red crosses, and the operations above and behind.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn draw(record: &Record, operations: &[Operation], title: &str, path: &Path) -> Result<()> {
    let canvas = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = plot(&canvas, record, operations, title).map_err(|error| anyhow!("{error}"));
    drawn
        .and_then(|()| canvas.present().map_err(|error| anyhow!("{error}")))
        .map_err(|error| anyhow!("drawing {}: {error}", path.display()))
}

fn plot(
    canvas: &Canvas<'_>,
    record: &Record,
    operations: &[Operation],
    title: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    canvas.fill(&WHITE)?;
    let times = || record.attempts.iter();
    let end = times().map(|attempt| attempt.at_ms).fold(1000.0, f64::max) / 1000.0;
    let slowest = times().map(|attempt| attempt.took_ms).fold(10.0, f64::max) * 1.4;
    let fastest = times().map(|attempt| attempt.took_ms).fold(10.0, f64::min).max(0.1) / 1.4;
    let mut chart = ChartBuilder::on(canvas)
        .margin_left(MARGIN)
        .margin_right(MARGIN)
        .margin_top(PLOT)
        .margin_bottom(LEGEND)
        .x_label_area_size(AXIS)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end * 1.01, (fastest..slowest).log_scale())?;
    for (from, to) in operations.iter().filter_map(|operation| operation.held_ms) {
        let corners = [(from / 1000.0, fastest), (to / 1000.0, slowest)];
        chart.draw_series([Rectangle::new(corners, HELD.mix(0.35).filled())])?;
    }
    let words = ("sans-serif", 14).into_font().color(&GREY);
    chart
        .configure_mesh()
        .x_desc("when the order was sent, in seconds since the load began")
        .y_desc("time until the answer, in ms (logarithmic)")
        .x_label_formatter(&|seconds| number(*seconds))
        .y_label_formatter(&|ms| number(*ms))
        .axis_desc_style(("sans-serif", 15))
        .label_style(words)
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(BLACK.mix(0.04))
        .draw()?;
    let lines = operations.iter().flat_map(|operation| &operation.steps).map(|mark| {
        let x = mark.at_ms / 1000.0;
        PathElement::new(vec![(x, fastest), (x, slowest)], BLACK.mix(0.3))
    });
    chart.draw_series(lines)?;
    let units = units(record);
    let point = |attempt: &Attempt| (attempt.at_ms / 1000.0, attempt.took_ms);
    for (index, unit) in units.iter().enumerate() {
        let of_unit = times().filter(|attempt| attempt.order.as_ref().is_some_and(|order| order.unit == *unit));
        let style = color(index).mix(0.75).filled();
        chart.draw_series(of_unit.map(|attempt| Circle::new(point(attempt), 2, style)))?;
    }
    let failed = times().filter(|attempt| attempt.order.is_none());
    chart.draw_series(failed.map(|attempt| Cross::new(point(attempt), 6, RED.stroke_width(2))))?;

    let heading = ("sans-serif", 21).into_font();
    canvas.draw(&Text::new(title.to_owned(), (MARGIN, TITLE), heading))?;
    for operation in operations {
        let x = |mark: &Mark| chart.backend_coord(&(mark.at_ms / 1000.0, slowest)).0;
        steps(canvas, operation, x)?;
    }
    legend(canvas, &units, record.failures())?;
    Ok(())
}

/// An operation's name and, upright and apart from each other, its steps, each tied to its line in the plot.
fn steps(
    canvas: &Canvas<'_>,
    operation: &Operation,
    x: impl Fn(&Mark) -> i32,
) -> Result<(), Box<dyn std::error::Error>> {
    let labels: Vec<Label> = spread(operation.steps.iter().map(|mark| (x(mark), mark.label.as_str())));
    let Some(first) = labels.first() else {
        return Ok(());
    };
    let name = ("sans-serif", 15).into_font().style(FontStyle::Bold);
    canvas.draw(&Text::new(operation.name.clone(), (first.drawn, NAMES), name))?;
    let bottom = PLOT as i32;
    for label in &labels {
        let leader = vec![(label.drawn, bottom - 22), (label.at, bottom)];
        canvas.draw(&PathElement::new(leader, BLACK.mix(0.4)))?;
        let upright = ("sans-serif", 13).into_font().transform(FontTransform::Rotate270);
        let style = upright.color(&BLACK);
        canvas.draw(&Text::new(label.text.clone(), (label.drawn - 6, bottom - 24), style))?;
    }
    Ok(())
}

fn legend(canvas: &Canvas<'_>, units: &[String], failed: usize) -> Result<(), Box<dyn std::error::Error>> {
    let y = SIZE.1 as i32 - 20;
    let mut x = 84;
    let word = |text: &dyn Display, x: i32| Text::new(text.to_string(), (x + 12, y - 7), ("sans-serif", 14));
    for (index, unit) in units.iter().enumerate() {
        canvas.draw(&Circle::new((x, y), 4, color(index).filled()))?;
        let text = format!("taken by {unit}");
        canvas.draw(&word(&text, x))?;
        x += width(&text);
    }
    let text = format!("failed: {failed}");
    canvas.draw(&Cross::new((x, y), 5, RED.stroke_width(2)))?;
    canvas.draw(&word(&text, x))?;
    x += width(&text);
    canvas.draw(&Rectangle::new(
        [(x - 6, y - 7), (x + 6, y + 7)],
        HELD.mix(0.35).filled(),
    ))?;
    canvas.draw(&word(&"writes of the moving slots are held", x))?;
    Ok(())
}

/// How far the next entry of the legend is.
fn width(text: &str) -> i32 {
    text.chars().count() as i32 * 8 + 34
}

fn color(index: usize) -> RGBColor {
    UNITS[index % UNITS.len()]
}

fn units(record: &Record) -> Vec<String> {
    let mut units: Vec<String> = record.acknowledged().map(|order| order.unit.clone()).collect();
    units.sort_unstable();
    units.dedup();
    units
}

/// Without zeros that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_says_what_it_shows() {
        let folder = std::env::temp_dir().join(format!("shop-picture-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("latency.svg");
        let mark = |at_ms: f64, label: &str| Mark {
            at_ms,
            label: label.to_owned(),
        };
        let operation = Operation {
            name: "a move".into(),
            steps: vec![mark(100.0, "Hold"), mark(130.0, "Open")],
            held_ms: Some((100.0, 130.0)),
        };
        draw(&Record::default(), &[operation], "orders", &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        for word in [
            "orders",
            "a move",
            "Hold",
            "Open",
            "in seconds",
            "in ms",
            "failed: 0",
            "are held",
        ] {
            assert!(svg.contains(word), "{word} is missing in {svg}");
        }
    }

    #[test]
    fn numbers_on_an_axis_are_short() {
        for (value, want) in [(1000.0, "1000"), (0.5, "0.5"), (1.0, "1"), (2.000_000_1, "2")] {
            assert_eq!(number(value), want);
        }
    }
}
