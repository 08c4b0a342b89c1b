//! A hash map with owned keys and values in which entries come and go, and which is made anew at times.
//!
//! Stresses tables that double into the megabytes beside many small strings.

use std::collections::HashMap;

use super::Load;

/// Keys that can occur, all threads together.
const KEYS: usize = 200_000;
/// Steps in all.
const WORK: usize = 2_000_000;

pub(super) fn run(load: &Load) -> u64 {
    let (keys, work) = (load.share(KEYS), load.share(WORK));
    load.on_threads(|_, mut random| {
        let mut map: HashMap<String, Vec<u32>> = HashMap::new();
        let mut sum = 0;
        for step in 0..work {
            let key = random.below(keys).to_string();
            match random.below(3) {
                0 => sum += map.remove(&key).map_or(1, |value| value.len() as u64),
                _ => map.entry(key).or_default().push(step as u32),
            }
            if (step + 1) % (work / 4).max(1) == 0 {
                sum += std::mem::take(&mut map).len() as u64;
            }
        }
        sum
    })
}
