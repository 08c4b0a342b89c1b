//! The stored figures, and how they compare with new ones.

use std::fmt;
use std::fs;
use std::io;

use crate::subjects::{Figures, OURS};

/// What to do about a change.
pub(crate) const ADVICE: &str = "\
If that is meant, accept it and say in the commit why it is worth it:
    cargo run -p ebb-tests --bin instructions -- --accept";

/// What a figure may differ by, in parts of the stored one: less than one instruction in fifty.
const TOLERANCE: f64 = 0.02;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/instructions.txt");

/// The content of the file.
#[derive(Debug, PartialEq)]
pub(crate) struct Baselines {
    /// The compiler, since another one makes other instructions.
    pub(crate) made_with: String,
    rows: Vec<(String, [f64; OURS.len()])>,
}

impl Baselines {
    /// From what was measured now; a list for each column.
    pub(crate) fn measured(columns: &[Figures]) -> Self {
        let rows = columns[0].iter().zip(&columns[1]);
        Self {
            made_with: ebb_benches::machine::compiler(),
            rows: rows
                .map(|((path, rust), (_, c))| (path.clone(), [*rust, *c]))
                .collect(),
        }
    }

    /// From the file.
    pub(crate) fn stored() -> io::Result<Self> {
        let text = fs::read_to_string(FILE)?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("{FILE} cannot be read")))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head = lines.next()?;
        let made_with = head.split_once(" with ")?.1.to_owned();
        let row = |line: &str| {
            let (rest, c) = line.trim().rsplit_once(' ')?;
            let (path, rust) = rest.trim().rsplit_once(' ')?;
            Some((
                path.trim().to_owned(),
                [rust.parse().ok()?, c.parse().ok()?],
            ))
        };
        let rows = lines.skip(1).map(row).collect::<Option<_>>()?;
        Some(Self { made_with, rows })
    }

    pub(crate) fn write(&self) -> io::Result<()> {
        fs::write(FILE, self.to_string())
    }

    /// What differs by more than is tolerated, a line each.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (path, new) in &now.rows {
            let Some((_, old)) = self.rows.iter().find(|(name, _)| name == path) else {
                changes.push(format!("{path}: not in {FILE} yet"));
                continue;
            };
            for (column, (old, new)) in OURS.iter().zip(old.iter().zip(new)) {
                let change = new / old - 1.0;
                if change.abs() > TOLERANCE {
                    changes.push(format!(
                        "{path}, from {column}: {old:.2} instructions before, {new:.2} now: {:+.1} %",
                        change * 100.0
                    ));
                }
            }
        }
        let gone = self
            .rows
            .iter()
            .filter(|(path, _)| now.rows.iter().all(|(name, _)| name != path));
        changes
            .extend(gone.map(|(path, _)| format!("{path}: in {FILE}, but not measured any more")));
        changes
    }
}

impl fmt::Display for Baselines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Instructions for one operation, its loop included, with {}",
            self.made_with
        )?;
        write!(f, "{:<40}", "")?;
        for column in OURS {
            write!(f, "{column:>12}")?;
        }
        for (path, figures) in &self.rows {
            write!(f, "\n{path:<40}")?;
            for figure in figures {
                write!(f, "{figure:>12.2}")?;
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(rust: f64, c: f64) -> Baselines {
        Baselines {
            made_with: "rustc 1".into(),
            rows: vec![("a path".into(), [rust, c]), ("b".into(), [1.0, 1.0])],
        }
    }

    /// Seen to fail when a head of one line was expected.
    #[test]
    fn what_is_written_can_be_read() {
        let written = two(10.5, 20.25);
        assert_eq!(Baselines::parse(&written.to_string()), Some(written));
    }

    /// Seen to fail when only increases were reported, and when a path that is gone was not.
    #[test]
    fn changes_beyond_two_percent_are_named() {
        let before = two(100.0, 100.0);
        assert_eq!(before.changes(&two(101.9, 98.1)), Vec::<String>::new());
        let changes = before.changes(&two(103.0, 97.0));
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(
            changes[0]
                .contains("a path, from Rust: 100.00 instructions before, 103.00 now: +3.0 %")
        );
        let mut other = two(100.0, 100.0);
        other.rows[1].0 = "c".into();
        assert_eq!(before.changes(&other).len(), 2);
    }
}
