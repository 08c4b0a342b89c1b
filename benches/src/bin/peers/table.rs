//! The result as Markdown that can also be read on a terminal.

use std::fmt::Write;

use crate::contest::{Contest, Contestant, Results};
use crate::summary::{FIGURES, Figure, LOSS, RSS, Spread, TIME, figure, mean, ratio, to_best};

/// The whole report.
pub(crate) fn text(contest: &Contest, results: &Results, machine: &[String]) -> String {
    let first = &contest.contestants[0].name;
    let mut text = String::new();
    let mut line =
        |words: &str| writeln!(text, "{words}").expect("writing to a string does not fail");
    for words in machine {
        line(&format!("- {words}"));
    }
    line(&format!(
        "- {} rounds by turns, medians; the others in ratio to {first}: above 1 is slower, or larger\n",
        contest.runs
    ));
    line("Geometric means over the programs of a group, and their range over the rounds:\n");
    for (group, cases) in contest.groups() {
        line(&rows(&means(contest, results, group, &cases)));
    }
    line(&format!(
        "Time, and half of its range in percent. \"to best\": {first} in ratio to the best other, **fat** beyond {LOSS}:\n"
    ));
    line(&rows(&cases(contest, results, TIME, seconds)));
    line("Peak RSS, likewise:\n");
    line(&rows(&cases(contest, results, RSS, mib)));
    text
}

fn seconds(value: f64) -> String {
    format!("{value:.3} s")
}

fn mib(value: f64) -> String {
    format!("{:.1} MiB", value / f64::from(1 << 20))
}

/// A row for each contestant.
fn means(contest: &Contest, results: &Results, group: &str, cases: &[usize]) -> Vec<Vec<String>> {
    let mut head = vec![format!("{group} ({})", cases.len()), "version".into()];
    head.extend(FIGURES.iter().map(|figure| figure.name.to_owned()));
    let mut table = vec![head];
    for (number, contestant) in contest.contestants.iter().enumerate() {
        let mean = |&of| mean(contest, results, cases, number, of).map_or("failed".into(), range);
        let mut row = vec![contestant.name.clone(), version(contestant)];
        row.extend(FIGURES.iter().map(mean));
        table.push(row);
    }
    table
}

/// The version, and what else its runs have in the environment.
fn version(contestant: &Contestant) -> String {
    let mut version = contestant.version.clone();
    for (name, value) in &contestant.environment {
        if name != "LD_PRELOAD" {
            version += &format!(", {}={}", name.display(), value.display());
        }
    }
    version
}

fn range(spread: Spread) -> String {
    match spread.min == spread.max {
        true => format!("{:.2}", spread.median),
        false => format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max),
    }
}

/// A row for each case: what the first contestant took, and the others in ratio to it.
fn cases(
    contest: &Contest,
    results: &Results,
    of: Figure,
    unit: fn(f64) -> String,
) -> Vec<Vec<String>> {
    let mut head = vec![of.name.to_owned()];
    head.extend(
        contest
            .contestants
            .iter()
            .map(|contestant| contestant.name.clone()),
    );
    head.push("to best".into());
    let mut table = vec![head];
    for (case, name) in contest.cases.iter().map(|case| &case.name).enumerate() {
        let mut row = vec![name.clone()];
        for contestant in 0..contest.contestants.len() {
            let cell = figure(results, case, contestant, of).map(|spread| {
                let ratio = ratio(results, case, contestant, of)
                    .map_or("—".into(), |ratio| format!("{ratio:.2}"));
                let value = if contestant == 0 {
                    unit(spread.median)
                } else {
                    ratio
                };
                format!("{value} ±{:.0}%", spread.percent())
            });
            row.push(cell.unwrap_or("failed".into()));
        }
        row.push(loss(to_best(contest, results, case, of)));
        table.push(row);
    }
    table
}

fn loss(ratio: Option<f64>) -> String {
    match ratio {
        None => "—".into(),
        Some(ratio) if ratio > LOSS => format!("**{ratio:.2}**"),
        Some(ratio) => format!("{ratio:.2}"),
    }
}

/// Rows of cells as a table, the first one its head, all columns as wide as their widest cell.
fn rows(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        table
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in table.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            let lines: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            text += &format!("| {} |\n", lines.join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail when widths were counted in bytes.
    #[test]
    fn columns_are_aligned() {
        let table = [
            vec!["a".to_owned(), "±1–2".to_owned()],
            vec!["long".to_owned(), "b".to_owned()],
        ];
        assert_eq!(
            rows(&table),
            "| a    | ±1–2 |\n| ---- | ---- |\n| long | b    |\n"
        );
    }
}
