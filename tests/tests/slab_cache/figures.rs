//! The figures of caches, in text and in JSON.

use std::fmt::{self, Write};

use ebb_tests::alone;
use ebbmalloc::{SlabCache, StatsFormat};

/// A text of limited length, on the stack.
struct Text([u8; 8192], usize);

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.0.get_mut(self.1..self.1 + part.len());
        room.ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.1 += part.len();
        Ok(())
    }
}

impl Text {
    fn of(format: StatsFormat) -> String {
        let mut text = Self([0; 8192], 0);
        ebbmalloc::write_stats(&mut text, format).unwrap();
        String::from_utf8(text.0[..text.1].to_vec()).unwrap()
    }
}

/// The columns of `/proc/slabinfo`, in its order. Seen to fail with two columns exchanged, and with the objects that a cache
/// has free counted as in use.
#[test]
fn figures_as_the_kernel_has_them() {
    alone("figures::figures_as_the_kernel_has_them", || {
        let cache = SlabCache::<[u8; 1000]>::new("two \"words\"").unwrap();
        let before = ebbmalloc::stats();
        let mut objects: Vec<_> = (0..200).map(|_| cache.alloc([1; 1000]).unwrap()).collect();
        objects.truncate(150);
        let text = Text::of(StatsFormat::Text);
        let mut lines = text.lines().skip_while(|line| !line.starts_with("# name"));
        let header = lines.next().unwrap();
        assert_eq!(header, ebbmalloc::CacheStats::HEADER);
        let words: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        let stats = cache.stats();
        let (active, shared) = ("150", stats.sharedavail.to_string());
        let expected = [
            "two_\"words\"",
            active,
            "224",
            "1008",
            "32",
            "8",
            ":",
            "tunables",
            "32",
            "16",
            "0",
            ":",
            "slabdata",
            "7",
            "7",
            &shared,
        ];
        assert_eq!(words, expected);
        assert!(stats.sharedavail > 0);
        let json = Text::of(StatsFormat::Json);
        let part = "\"slab_caches\":[{\"name\":\"two \\\"words\\\"\",\"active_objs\":150,\"num_objs\":224,";
        assert!(json.contains(part), "{json}");
        let now = ebbmalloc::stats();
        assert_eq!(
            now.in_use - before.in_use,
            150 * 1008 + 7 * (32768 - 32 * 1008)
        );
        assert_eq!(now.cached - before.cached, stats.sharedavail * 1008);
    });
}
