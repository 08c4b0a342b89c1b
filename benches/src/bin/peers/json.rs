//! Every sample, for whoever wants to make other figures of them.

use serde_json::{Value, json};

use crate::contest::{Contest, Results};
use crate::summary::{FIGURES, figure, mean};

/// The whole result as JSON.
pub(crate) fn text(contest: &Contest, results: &Results, machine: &[String]) -> String {
    let contestants: Vec<Value> = (0..contest.contestants.len())
        .map(|number| contestant(contest, results, number))
        .collect();
    let value = json!({ "machine": machine, "runs": contest.runs, "allocators": contestants });
    format!("{value:#}\n")
}

fn contestant(contest: &Contest, results: &Results, number: usize) -> Value {
    let contestant = &contest.contestants[number];
    let means: serde_json::Map<String, Value> = contest
        .groups()
        .into_iter()
        .map(|(group, cases)| (group.into(), means(contest, results, &cases, number)))
        .collect();
    let cases: serde_json::Map<String, Value> = (0..contest.cases.len())
        .map(|case| {
            (
                contest.cases[case].name.clone(),
                samples(results, case, number),
            )
        })
        .collect();
    json!({
        "name": contestant.name,
        "version": contestant.version,
        "ratio to the first": means,
        "cases": cases,
    })
}

fn means(contest: &Contest, results: &Results, cases: &[usize], number: usize) -> Value {
    let means = FIGURES.iter().filter_map(|&of| {
        let mean = mean(contest, results, cases, number, of)?;
        Some((
            of.name.to_owned(),
            json!({ "mean": mean.median, "min": mean.min, "max": mean.max }),
        ))
    });
    Value::Object(means.collect())
}

/// Seconds and bytes of each round; null where a run failed.
fn samples(results: &Results, case: usize, contestant: usize) -> Value {
    let Some(samples) = results.samples(case, contestant) else {
        return Value::Null;
    };
    let figures = FIGURES.iter().filter_map(|&of| {
        let spread = figure(results, case, contestant, of)?;
        let rounds: Vec<f64> = samples.iter().map(of.of).collect();
        Some((of.name.to_owned(), json!({ "median": spread.median, "min": spread.min, "max": spread.max, "rounds": rounds })))
    });
    Value::Object(figures.collect())
}
