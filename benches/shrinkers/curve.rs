//! B6 as a curve: of the bytes of objects that a cache has evicted, how much has come back, from a tenth to nine tenths of it.
//! The cache is that of [`eviction`](crate::eviction), with objects of 512 bytes.

use ebb_benches::Random;

use crate::eviction::{BATCH, BYTES, Cache, Entry, Evict, Zipf, filled};

type Object = Entry<504>;

/// Evicts any of them.
fn evict_any(cache: &mut Cache<504>, batch: usize) {
    // What is left decides, so it is another order each time.
    let mut random = Random::new(cache.len as u64);
    let mut left = batch;
    while left > 0 {
        let key = random.below(cache.entries.len());
        if cache.entries[key].is_some() {
            cache.evict(key);
            left -= 1;
        }
    }
}

/// One way: the parts that have come back, in percent, after each tenth.
fn one(zipf: &Zipf, at_random: bool, evict: Evict<504>) -> Option<Vec<f64>> {
    let mut cache = filled::<504>(zipf, at_random)?;
    let backed = |cache: &Cache<504>| {
        cache.slabs.shrink();
        ebbmalloc::purge();
        ebbmalloc::backed()
    };
    let (len, before) = (cache.len, backed(&cache));
    let part = |tenths: usize| {
        while cache.len > len - len * tenths / 10 {
            evict(&mut cache, BATCH);
        }
        let returned = before.saturating_sub(backed(&cache));
        100.0 * returned as f64 / ((len - cache.len) * size_of::<Object>()) as f64
    };
    Some((1..=9).map(part).collect())
}

/// A table for each way to fill the cache.
pub(crate) fn run() {
    let objects = BYTES / size_of::<Object>();
    let zipf = Zipf::new(objects * 2);
    let ways: [(&str, Evict<504>); 4] = [
        ("LRU", Cache::evict_lru),
        ("any", evict_any),
        ("whole slabs", Cache::evict_slabs),
        ("LRU, then moves", Cache::evict_and_move),
    ];
    for (fill, at_random) in [("at random", true), ("by use", false)] {
        println!(
            "B6: percent of the evicted bytes that came back, {objects} objects of {} bytes, filled {fill}",
            size_of::<Object>()
        );
        let tenths: String = (1..=9)
            .map(|tenth| format!("{:>6} %", tenth * 10))
            .collect();
        println!("  {:<16}{tenths}", "evicted");
        for (name, evict) in ways {
            let parts = one(&zipf, at_random, evict).unwrap_or_default();
            let parts: String = parts.iter().map(|part| format!("{part:>8.1}")).collect();
            println!("  {name:<16}{parts}");
        }
    }
}
