//! Latencies by percentile as an SVG: a line for each size of request, both scales logarithmic, so that the worst of a
//! thousand has as much room as the worst of ten.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::Latencies;

const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 90, 160),
    RGBColor(60, 140, 70),
    RGBColor(200, 120, 20),
    RGBColor(200, 40, 40),
];

/// What the axis says at 0, 1, 2...
const MARKS: [&str; 5] = ["0", "90", "99", "99.9", "99.99"];

/// Points of a line between two marks.
const STEPS: u32 = 40;

/// The part, of 100,000, at a place of the axis: 90 % at 1, 99 % at 2, 99.9 % at 3.
fn part(place: f64) -> usize {
    (100_000.0 * (1.0 - 10_f64.powf(-place))).round() as usize
}

/// Draws them all.
pub(crate) fn draw(file: &Path, results: &[Latencies]) -> Result<(), Box<dyn Error>> {
    let canvas = SVGBackend::new(file, (960, 480)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let top = results
        .iter()
        .map(|one| one.at(100_000))
        .fold(10.0, f64::max);
    let mut chart = ChartBuilder::on(&canvas)
        .caption(
            "An allocation that has to reclaim, 3 caches of 1,000,000 objects",
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..4.05, (10.0..top * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_labels(MARKS.len())
        .x_desc("percentile")
        .y_desc("microseconds")
        .x_label_formatter(&|x: &f64| {
            MARKS
                .get(x.round() as usize)
                .copied()
                .unwrap_or("")
                .to_owned()
        })
        .y_label_formatter(&|y: &f64| format!("{y:.0}"))
        .draw()?;
    for (one, colour) in results.iter().zip(COLOURS) {
        let places = (0..=4 * STEPS).map(|step| f64::from(step) / f64::from(STEPS));
        let points = places.map(|place| (place, one.at(part(place)).max(1.0)));
        let style = colour.stroke_width(2);
        let label = format!(
            "{}: p50 {:.0}, p99 {:.0}, max {:.0}",
            one.label(),
            one.at(50_000),
            one.at(99_000),
            one.at(100_000)
        );
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.9))
        .draw()?;
    drop(chart);
    canvas.present()?;
    Ok(())
}
