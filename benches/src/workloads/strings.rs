//! Text split into owned words, words sorted and made unique, lines formatted and joined again.
//!
//! Stresses tiny blocks of odd sizes that come in crowds and go together.

use std::fmt::Write;

use super::Load;
use crate::Random;

/// Texts in all.
const WORK: usize = 3_000;

pub(super) fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, mut random| (0..work).map(|_| treat(&text(&mut random, 500))).sum())
}

/// So many words of 1 to 12 letters, a line break now and then.
pub(super) fn text(random: &mut Random, words: usize) -> String {
    let mut text = String::new();
    for _ in 0..words {
        for _ in 0..random.between(1, 12) {
            text.push(char::from(b'a' + random.below(26) as u8));
        }
        text.push(if random.below(10) == 0 { '\n' } else { ' ' });
    }
    text
}

fn treat(text: &str) -> u64 {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_uppercase).collect();
    words.sort_unstable();
    words.dedup();
    let numbered: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(number, word)| format!("{number}: {word}"))
        .collect();
    let mut all = numbered.join(", ");
    for line in text.lines() {
        let reversed: String = line.chars().rev().collect();
        writeln!(all, "{reversed}").expect("writing to a string does not fail");
    }
    all.bytes().map(u64::from).sum()
}
