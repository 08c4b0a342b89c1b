//! Time and RSS against the size of what was run, for cases that differ in nothing else: an SVG.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contest::{Contest, Results};
use crate::summary::{Figure, RSS, TIME, figure};

/// A row for each group, time and RSS beside each other, a line for each contestant.
pub(crate) fn draw(
    file: &Path,
    contest: &Contest,
    results: &Results,
) -> Result<(), Box<dyn Error>> {
    let groups = contest.groups();
    let size = (1280, 420 * groups.len() as u32);
    let canvas = SVGBackend::new(file, size).into_drawing_area();
    canvas.fill(&WHITE)?;
    let areas = canvas.split_evenly((groups.len(), 2));
    let units = [
        (TIME, "seconds", 1.0),
        (RSS, "peak MiB", f64::from(1 << 20)),
    ];
    let panels = groups
        .iter()
        .flat_map(|group| units.map(|unit| (group, unit)));
    for (area, ((group, cases), (of, name, unit))) in areas.iter().zip(panels) {
        let line = |contestant| line(contest, results, cases, contestant, of, unit);
        let lines: Vec<_> = (0..contest.contestants.len()).map(line).collect();
        panel(area, &format!("{name} against {group}"), contest, &lines)?;
    }
    canvas.present()?;
    Ok(())
}

type Line = Vec<(f64, f64)>;

/// A contestant's figures in the cases that it completed.
fn line(
    contest: &Contest,
    results: &Results,
    cases: &[usize],
    contestant: usize,
    of: Figure,
    unit: f64,
) -> Line {
    let point = |&case: &usize| {
        let spread = figure(results, case, contestant, of)?;
        Some((contest.cases[case].at?, spread.median / unit))
    };
    cases.iter().filter_map(point).collect()
}

/// What stands beside a tick: of each power of ten there is room for four.
fn label(value: &f64) -> String {
    let exponent = (value.log10() + 1e-9).floor();
    let digit = (value / 10_f64.powf(exponent)).round();
    match [1.0, 2.0, 4.0, 6.0].contains(&digit) {
        true => format!("{:.*}", (-exponent).max(0.0) as usize, value),
        false => String::new(),
    }
}

/// Both axes are logarithmic: what grows in proportion is a straight line.
fn panel(
    area: &DrawingArea<SVGBackend, Shift>,
    caption: &str,
    contest: &Contest,
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flatten();
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        low * 0.9..high * 1.1
    };
    let across = range(&mut points().map(|point| point.0));
    let up = range(&mut points().map(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    let mesh = &mut chart.configure_mesh();
    mesh.x_label_formatter(&label).y_label_formatter(&label);
    mesh.light_line_style(WHITE).draw()?;
    for (number, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).stroke_width(if number == 0 { 3 } else { 1 });
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour))?
            .label(contest.contestants[number].name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    let labels = &mut chart.configure_series_labels();
    labels.background_style(WHITE.mix(0.8));
    labels.position(SeriesLabelPosition::UpperLeft).draw()?;
    Ok(())
}
