//! Random numbers: the same for the same seed, in a few instructions, so that what is measured is the allocator.

/// A sequence of random numbers (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// The next 32 random bits.
    #[inline]
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// A number below `bound`, which is at most 2^32; 0 when that is 0.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.bits()) * bound as u64) >> 32) as usize
    }

    /// A number of `low..=high`.
    #[inline]
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Puts them into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }

    /// A size as programs use them, 8 bytes to 8 KiB: each doubling half as often as the one before.
    #[inline]
    pub fn small_size(&mut self) -> usize {
        let doublings = self.bits().trailing_zeros().min(9);
        self.between(8 << doublings, 16 << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with a shift of 33 in `below`, and of 8 << 1 in `small_size`.
    #[test]
    fn numbers_fill_their_range() {
        let mut random = Random::new(7);
        let mut seen = [0; 10];
        (0..10_000).for_each(|_| seen[random.below(10)] += 1);
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
        let sizes: Vec<usize> = (0..100_000).map(|_| random.small_size()).collect();
        assert_eq!(sizes.iter().min(), Some(&8));
        assert!(sizes.iter().all(|&size| size <= 8192));
        assert!(sizes.iter().any(|&size| size > 4096));
    }
}
