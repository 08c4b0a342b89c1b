//! The geometric means as bars: an SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::contest::{Contest, Results};
use crate::summary::{FIGURES, Spread, mean};

/// A bar and its label.
struct Bar {
    name: String,
    spread: Spread,
}

/// Draws the four figures side by side, a bar for each contestant; a row for each group.
pub(crate) fn draw(
    file: &Path,
    contest: &Contest,
    results: &Results,
) -> Result<(), Box<dyn Error>> {
    let groups = contest.groups();
    let height = 40 + groups.len() as u32 * (80 + 28 * contest.contestants.len() as u32);
    let canvas = SVGBackend::new(file, (1280, height)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let canvas = canvas.titled(
        &format!(
            "Geometric means in ratio to {}: shorter is better",
            contest.contestants[0].name
        ),
        ("sans-serif", 20),
    )?;
    let areas = canvas.split_evenly((groups.len(), FIGURES.len()));
    let panels = groups
        .iter()
        .flat_map(|group| FIGURES.map(|of| (group, of)));
    for (area, ((group, cases), of)) in areas.iter().zip(panels) {
        let contestants = contest.contestants.iter().enumerate();
        let bars = contestants.filter_map(|(number, contestant)| {
            let spread = mean(contest, results, cases, number, of)?;
            let name = contestant.name.clone();
            Some(Bar { name, spread })
        });
        panel(
            area,
            &format!("{group}: {}", of.name),
            &bars.collect::<Vec<_>>(),
        )?;
    }
    canvas.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    caption: &str,
    bars: &[Bar],
) -> Result<(), Box<dyn Error>> {
    let end = bars.iter().map(|bar| bar.spread.max).fold(1.0, f64::max) * 1.3;
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .build_cartesian_2d(0.0..end, rows..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_max_light_lines(0)
        .y_labels(0)
        .x_labels(5)
        .draw()?;
    for (row, bar) in bars.iter().enumerate() {
        let (top, spread) = (row as f64, bar.spread);
        let colour = if row == 0 {
            BLUE.mix(0.3)
        } else {
            BLACK.mix(0.2)
        };
        let body = Rectangle::new(
            [(0.0, top + 0.15), (spread.median, top + 0.85)],
            colour.filled(),
        );
        let range = PathElement::new([(spread.min, top + 0.5), (spread.max, top + 0.5)], BLACK);
        chart.draw_series([body])?;
        chart.draw_series([range])?;
        let label = format!("{} {:.2}", bar.name, spread.median);
        chart.draw_series([Text::new(
            label,
            (end * 0.01, top + 0.25),
            ("sans-serif", 14),
        )])?;
    }
    // Where the first one stands.
    chart.draw_series([PathElement::new([(1.0, 0.0), (1.0, rows)], BLUE)])?;
    Ok(())
}
