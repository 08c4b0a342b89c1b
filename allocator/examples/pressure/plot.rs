//! Memory over time as an SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::watch::Sample;

/// Draws the samples, and the budget as a line.
pub(crate) fn draw(file: &Path, budget: usize, samples: &[Sample]) -> Result<(), Box<dyn Error>> {
    let seconds = samples
        .last()
        .map_or(1.0, |last| last.at.as_secs_f64())
        .max(0.1);
    let peak = samples
        .iter()
        .map(|sample| sample.backed.max(sample.resident))
        .max()
        .unwrap_or(0);
    let top = mib(peak.max(budget)) * 1.1;
    let canvas = SVGBackend::new(file, (960, 480)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&canvas)
        .caption("Memory under pressure", ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..seconds, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("MiB")
        .draw()?;
    let line = |value: fn(&Sample) -> usize| {
        samples
            .iter()
            .map(move |sample| (sample.at.as_secs_f64(), mib(value(sample))))
    };
    let key = |style: RGBColor| move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style);
    chart
        .draw_series(LineSeries::new(line(|sample| sample.backed), &BLUE))?
        .label("backed")
        .legend(key(BLUE));
    chart
        .draw_series(LineSeries::new(line(|sample| sample.resident), &GREEN))?
        .label("resident")
        .legend(key(GREEN));
    let limit = mib(budget);
    chart
        .draw_series(LineSeries::new([(0.0, limit), (seconds, limit)], &RED))?
        .label("budget")
        .legend(key(RED));
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    canvas.present()?;
    Ok(())
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
