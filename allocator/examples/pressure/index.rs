//! What the service knows of one file: where its words stand.

use std::collections::HashMap;

use crate::caches::Weigh;
use crate::corpus::OutOfMemory;

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// In which line, counted from 0,
    pub(crate) line: u32,
    /// which begins at this byte of the text.
    pub(crate) start: u32,
}

/// The words of one file: very many small blocks.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Where each word stands, in order.
    words: HashMap<Box<str>, Vec<Place>>,
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
        let text_start = text.as_ptr().addr();
        for (number, line) in text.lines().enumerate() {
            let place = Place {
                line: number as u32,
                start: (line.as_ptr().addr() - text_start) as u32,
            };
            for word in split(line) {
                index.add(word, place)?;
            }
        }
        index.bytes = index.weight();
        Ok(index)
    }

    fn add(&mut self, word: &str, place: Place) -> Result<(), OutOfMemory> {
        if !self.words.contains_key(word) {
            self.words.try_reserve(1).map_err(|_| OutOfMemory)?;
            self.words.insert(copy(word)?, Vec::new());
        }
        if let Some(places) = self.words.get_mut(word) {
            places.try_reserve(1).map_err(|_| OutOfMemory)?;
            places.push(place);
        }
        Ok(())
    }

    /// A table's slot for each word, a block for its letters and one for its places; no block has less than 16 bytes.
    fn weight(&self) -> usize {
        let slot = size_of::<(Box<str>, Vec<Place>)>() + 1;
        let block = |bytes: usize| bytes.next_multiple_of(16);
        let words = self.words.keys().map(|word| block(word.len()));
        let places = self
            .words
            .values()
            .map(|it| block(it.capacity() * size_of::<Place>()));
        self.words.capacity() * slot + words.sum::<usize>() + places.sum::<usize>()
    }

    /// Where a word stands in the file.
    pub(crate) fn places(&self, word: &str) -> &[Place] {
        self.words.get(word).map_or(&[], Vec::as_slice)
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
