//! An ordered map in which ranges of entries come and go.
//!
//! Stresses nodes of a few hundred bytes that split and merge, beside small values of their own.

use std::collections::BTreeMap;

use super::Load;

/// Keys that can occur, all threads together.
const KEYS: usize = 300_000;
/// Steps in all.
const WORK: usize = 2_500_000;

pub(super) fn run(load: &Load) -> u64 {
    let (keys, work) = (load.share(KEYS), load.share(WORK));
    load.on_threads(|_, mut random| {
        let mut map: BTreeMap<usize, Box<[u8]>> = BTreeMap::new();
        let mut sum = 0;
        for step in 0..work {
            let key = random.below(keys);
            if random.below(5) < 2 {
                let next = map.range(key..).next().map(|(&next, _)| next);
                let removed = next.and_then(|next| map.remove(&next));
                sum += removed.map_or(1, |value| value.len() as u64);
            } else {
                let value = vec![step as u8; random.between(1, 64)];
                map.insert(key, value.into_boxed_slice());
            }
        }
        sum + map.values().map(|value| u64::from(value[0])).sum::<u64>()
    })
}
