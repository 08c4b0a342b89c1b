//! What the service knows of one file: its words, how often each stands there and in which lines.

use std::collections::HashMap;

use crate::caches::Weigh;
use crate::corpus::OutOfMemory;

/// One word in one file.
#[derive(Debug, Default)]
struct Posting {
    count: u32,
    /// Where the lines that have it begin, in order, each once.
    lines: Vec<u32>,
}

/// The words of one file: very many small blocks.
#[derive(Debug, Default)]
pub(crate) struct Index {
    words: HashMap<Box<str>, Posting>,
    bytes: usize,
}

impl Weigh for Index {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Index {
    pub(crate) fn of(text: &str) -> Result<Self, OutOfMemory> {
        let mut index = Self::default();
        let start = text.as_ptr().addr();
        for line in text.lines() {
            let place = (line.as_ptr().addr() - start) as u32;
            for word in split(line) {
                index.add(word, place)?;
            }
        }
        index.bytes = index.weight();
        Ok(index)
    }

    fn add(&mut self, word: &str, line: u32) -> Result<(), OutOfMemory> {
        if !self.words.contains_key(word) {
            self.words.try_reserve(1).map_err(|_| OutOfMemory)?;
            self.words.insert(copy(word)?, Posting::default());
        }
        let Some(posting) = self.words.get_mut(word) else {
            return Ok(());
        };
        posting.count += 1;
        if posting.lines.last() != Some(&line) {
            posting.lines.try_reserve(1).map_err(|_| OutOfMemory)?;
            posting.lines.push(line);
        }
        Ok(())
    }

    /// A table's slot for each word, a block for its letters and one for its lines; no block has less than 16 bytes.
    fn weight(&self) -> usize {
        let slot = size_of::<(Box<str>, Posting)>() + 1;
        let block = |bytes: usize| bytes.next_multiple_of(16);
        let words = self.words.keys().map(|word| block(word.len()));
        let lines = self.words.values().map(|it| block(it.lines.capacity() * 4));
        self.words.capacity() * slot + words.sum::<usize>() + lines.sum::<usize>()
    }

    /// How often a word stands in the file, and where the lines that have it begin.
    pub(crate) fn get(&self, word: &str) -> (u32, &[u32]) {
        self.words
            .get(word)
            .map_or((0, &[]), |posting| (posting.count, &posting.lines))
    }
}

/// The words of a line.
pub(crate) fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// A copy of exactly the text's size.
pub(crate) fn copy(text: &str) -> Result<Box<str>, OutOfMemory> {
    let mut owned = String::new();
    owned
        .try_reserve_exact(text.len())
        .map_err(|_| OutOfMemory)?;
    owned.push_str(text);
    Ok(owned.into_boxed_str())
}
