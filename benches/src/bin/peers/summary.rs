//! From samples to figures.
//!
//! A case's figure is the median of its rounds. A ratio is that of two medians. A mean over cases is geometric; its
//! range is that of the rounds, each of which gives a mean of its own from ratios within that round.

use crate::contest::{Contest, Results};
use crate::measure::Sample;

/// A loss by more than this is marked.
pub(crate) const LOSS: f64 = 1.15;

/// One of the four things measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) of: fn(&Sample) -> f64,
}

impl Figure {
    const fn new(name: &'static str, of: fn(&Sample) -> f64) -> Self {
        Self { name, of }
    }
}

pub(crate) const TIME: Figure = Figure::new("time", |sample| sample.seconds);
pub(crate) const CPU: Figure = Figure::new("CPU", |sample| sample.cpu);
pub(crate) const RSS: Figure = Figure::new("peak RSS", |sample| sample.rss);
pub(crate) const FAULTS: Figure = Figure::new("page faults", |sample| sample.faults);
pub(crate) const FIGURES: [Figure; 4] = [TIME, CPU, RSS, FAULTS];

/// Where values lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Self { median, min, max })
    }

    /// Half of the range, in percent of the median.
    pub(crate) fn percent(&self) -> f64 {
        (self.max - self.min) / 2.0 / self.median.max(f64::MIN_POSITIVE) * 100.0
    }
}

/// What a contestant took in a case.
pub(crate) fn figure(
    results: &Results,
    case: usize,
    contestant: usize,
    figure: Figure,
) -> Option<Spread> {
    let samples = results.samples(case, contestant)?;
    Spread::of(samples.iter().map(figure.of).collect())
}

/// That in ratio to the first contestant.
pub(crate) fn ratio(results: &Results, case: usize, contestant: usize, of: Figure) -> Option<f64> {
    let mine = figure(results, case, contestant, of)?;
    let first = figure(results, case, 0, of)?;
    quotient(mine.median, first.median)
}

/// The first contestant's figure in ratio to the smallest of the others.
pub(crate) fn to_best(
    contest: &Contest,
    results: &Results,
    case: usize,
    of: Figure,
) -> Option<f64> {
    let others = 1..contest.contestants.len();
    let ratios = others.filter_map(|other| ratio(results, case, other, of));
    ratios.min_by(f64::total_cmp).map(|least| 1.0 / least)
}

/// A contestant's mean ratio over those of the cases that both it and the first one completed.
pub(crate) fn mean(
    contest: &Contest,
    results: &Results,
    cases: &[usize],
    contestant: usize,
    of: Figure,
) -> Option<Spread> {
    let cases = cases.iter().copied();
    let mean = geometric(
        cases
            .clone()
            .filter_map(|case| ratio(results, case, contestant, of)),
    )?;
    let rounds = (0..contest.runs).filter_map(|round| {
        let sample =
            |case, contestant| Some((of.of)(results.samples(case, contestant)?.get(round)?));
        geometric(
            cases
                .clone()
                .filter_map(|case| quotient(sample(case, contestant)?, sample(case, 0)?)),
        )
    });
    let spread = Spread::of(rounds.collect())?;
    Some(Spread {
        median: mean,
        ..spread
    })
}

fn quotient(mine: f64, first: f64) -> Option<f64> {
    (mine > 0.0 && first > 0.0).then(|| mine / first)
}

fn geometric(values: impl Iterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<f64> = values.map(f64::ln).collect();
    (!logarithms.is_empty())
        .then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail when the median of four was the third value, and when the mean was arithmetic.
    #[test]
    fn figures_of_known_values() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(
            spread,
            Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            }
        );
        assert_eq!(spread.percent(), 60.0);
        assert_eq!(Spread::of(vec![7.0, 9.0, 8.0]).unwrap().median, 8.0);
        assert_eq!(Spread::of(Vec::new()), None);
        let mean = geometric([2.0, 8.0].into_iter()).unwrap();
        assert!((mean - 4.0).abs() < 1e-9);
        assert_eq!(quotient(1.0, 0.0), None);
    }
}
