//! Regular expressions are compiled, a text is searched with them, and what is found is copied out.
//!
//! Stresses the many vectors of a compiler that live for a moment, and the tables that it leaves.

use regex::Regex;

use super::Load;
use super::strings::text;
use crate::Random;

/// Compilations in all.
const WORK: usize = 1_000;

const PATTERNS: [&str; 6] = [
    r"(?i)\b(\w+)ing\b",
    r"([a-f]+)\s+([g-m]+)",
    r"^(\w+)\s.*\s(\w+)$",
    r"(foo|bar|baz|qux)+[0-9]{0,4}",
    r"[aeiou]{2,}[^aeiou\s]{3}",
    r"(?P<first>\w)(?P<rest>\w{7,})",
];

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    let text = text(&mut Random::new(1), 200);
    load.on_threads(|_, _| {
        (0..work)
            .map(|round| search(PATTERNS[round % PATTERNS.len()], &text))
            .sum()
    })
}

fn search(pattern: &str, text: &str) -> u64 {
    let expression = Regex::new(pattern).expect("the patterns are valid");
    let found: Vec<String> = expression
        .captures_iter(text)
        .flat_map(|captures| {
            captures
                .iter()
                .flatten()
                .map(|m| m.as_str().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let letters: usize = found.iter().map(String::len).sum();
    (pattern.len() + letters) as u64
}
