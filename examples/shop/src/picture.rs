//! The latency of a load over time, as an SVG, with the steps of the promotions marked.

use crate::load::Record;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// A moment to mark.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When, in milliseconds since the load began.
    pub at_ms: f64,
    /// What to write beside it.
    pub label: String,
}

/// Draws every attempt as a dot by the unit that took it, failures in red, and a line at each mark.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn draw(record: &Record, marks: &[Mark], title: &str, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (1200, 520)).into_drawing_area();
    let fail = |error: String| anyhow!("drawing {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| fail(error.to_string()))?;
    let end = record
        .attempts
        .iter()
        .map(|attempt| attempt.at_ms)
        .fold(1000.0, f64::max)
        / 1000.0;
    let slowest = record
        .attempts
        .iter()
        .map(|attempt| attempt.took_ms)
        .fold(10.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end * 1.02, (0.5..slowest * 2.0).log_scale())
        .map_err(|error| fail(error.to_string()))?;
    chart
        .configure_mesh()
        .x_desc("seconds since the load began")
        .y_desc("latency of an order, ms")
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| fail(error.to_string()))?;
    for (index, mark) in marks.iter().enumerate() {
        let x = mark.at_ms / 1000.0;
        // Labels of steps that are milliseconds apart would lie on each other: they go down a stair.
        let y = slowest * 1.8 / 1.28_f64.powi((index % 9) as i32);
        let line = std::iter::once(PathElement::new(vec![(x, 0.5), (x, slowest * 2.0)], BLACK.mix(0.25)));
        chart.draw_series(line).map_err(|error| fail(error.to_string()))?;
        let text = std::iter::once(Text::new(mark.label.clone(), (x + end * 0.003, y), ("sans-serif", 12)));
        chart.draw_series(text).map_err(|error| fail(error.to_string()))?;
    }
    let mut units: Vec<String> = record.acknowledged().map(|order| order.unit.clone()).collect();
    units.sort_unstable();
    units.dedup();
    for (index, unit) in units.iter().enumerate() {
        let color = Palette99::pick(index + 1).to_rgba();
        let dots = record
            .attempts
            .iter()
            .filter(|attempt| attempt.order.as_ref().is_some_and(|order| order.unit == *unit));
        let dots = dots.map(|attempt| Circle::new((attempt.at_ms / 1000.0, attempt.took_ms), 2, color.filled()));
        let series = chart.draw_series(dots).map_err(|error| fail(error.to_string()))?;
        series
            .label(format!("taken by {unit}"))
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    let failed = record.attempts.iter().filter(|attempt| attempt.order.is_none());
    let crosses = failed.map(|attempt| Cross::new((attempt.at_ms / 1000.0, attempt.took_ms), 5, RED.filled()));
    let series = chart.draw_series(crosses).map_err(|error| fail(error.to_string()))?;
    series
        .label("failed")
        .legend(|(x, y)| Cross::new((x + 8, y), 4, RED.filled()));
    let mut legend = chart.configure_series_labels();
    legend
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2));
    legend.draw().map_err(|error| fail(error.to_string()))?;
    area.present().map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_names_every_mark() {
        let folder = std::env::temp_dir().join(format!("shop-picture-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("latency.svg");
        let marks = [
            Mark {
                at_ms: 100.0,
                label: "Hold".into(),
            },
            Mark {
                at_ms: 130.0,
                label: "Open".into(),
            },
        ];
        draw(&Record::default(), &marks, "orders", &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(
            svg.contains("Hold") && svg.contains("Open") && svg.contains("orders"),
            "{svg}"
        );
    }
}
