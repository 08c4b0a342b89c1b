//! Memory over time as an SVG: what the caches hold, as areas on top of each other, under the lines of backed and
//! resident memory and the budget.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::watch::{Sample, mib};

type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

const AREAS: [(&str, RGBColor); 3] = [
    ("files", RGBColor(198, 219, 239)),
    ("indexes", RGBColor(218, 232, 207)),
    ("answers", RGBColor(248, 225, 190)),
];
const BACKED: RGBColor = RGBColor(31, 90, 160);
const RESIDENT: RGBColor = RGBColor(90, 90, 90);
const BUDGET: RGBColor = RGBColor(200, 40, 40);

/// Draws the samples.
pub(crate) fn draw(
    file: &Path,
    budget: usize,
    title: &str,
    samples: &[Sample],
) -> Result<(), Box<dyn Error>> {
    let canvas = SVGBackend::new(file, (960, 480)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = axes(&canvas, budget, title, samples)?;
    for number in (0..AREAS.len()).rev() {
        area(&mut chart, number, samples)?;
    }
    let resident = |sample: &Sample| (seconds(sample), mib(sample.resident));
    line(
        &mut chart,
        "resident",
        RESIDENT,
        samples.iter().map(resident),
    )?;
    let backed = |sample: &Sample| (seconds(sample), mib(sample.backed));
    line(&mut chart, "backed", BACKED, samples.iter().map(backed))?;
    let ends = [samples.first(), samples.last()];
    let limit = ends
        .into_iter()
        .flatten()
        .map(|sample| (seconds(sample), mib(budget)));
    line(&mut chart, "budget", BUDGET, limit)?;
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

fn axes<'a, 'b>(
    canvas: &'a Canvas<'b>,
    budget: usize,
    title: &str,
    samples: &[Sample],
) -> Result<Chart<'a, 'b>, Box<dyn Error>> {
    let end = samples.last().map_or(1.0, seconds).max(0.1);
    let peak = samples
        .iter()
        .map(|sample| sample.backed.max(sample.resident));
    let top = mib(peak.max().unwrap_or(0).max(budget)) * 1.15;
    let mut chart = ChartBuilder::on(canvas)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("seconds")
        .y_desc("MiB")
        .x_label_formatter(&|x| format!("{x:.1}").trim_end_matches(".0").to_owned())
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    Ok(chart)
}

/// What a cache holds, on top of those before it.
fn area(chart: &mut Chart, number: usize, samples: &[Sample]) -> Result<(), Box<dyn Error>> {
    let (name, color) = AREAS[number];
    let height = |sample: &Sample| sample.cached[..=number].iter().sum::<usize>();
    let edge = samples
        .iter()
        .map(|sample| (seconds(sample), mib(height(sample))));
    let end = samples.last().map_or(0.0, seconds);
    let outline: Vec<_> = edge.chain([(end, 0.0), (0.0, 0.0)]).collect();
    chart
        .draw_series([Polygon::new(outline, color.filled())])?
        .label(name)
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 20, y + 5)], color.filled()));
    Ok(())
}

fn line(
    chart: &mut Chart,
    name: &str,
    color: RGBColor,
    points: impl Iterator<Item = (f64, f64)>,
) -> Result<(), Box<dyn Error>> {
    let style = color.stroke_width(2);
    chart
        .draw_series(LineSeries::new(points, style))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    Ok(())
}

fn seconds(sample: &Sample) -> f64 {
    sample.at.as_secs_f64()
}
