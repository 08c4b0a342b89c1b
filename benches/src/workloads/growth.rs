//! Eight buffers side by side that grow by appending, as when responses are read from sockets, to half a megabyte to
//! four.
//!
//! Stresses `realloc` of large blocks that cannot grow in place for ever: copying against `mremap`.

use super::Load;
use crate::Random;

/// Buffers that one thread fills side by side.
const BUFFERS: usize = 8;
/// Buffers in all.
const WORK: usize = 320;

pub(super) fn run(load: &Load) -> u64 {
    let rounds = (load.share(WORK) / BUFFERS).max(1);
    load.on_threads(|_, mut random| (0..rounds).map(|_| fill(&mut random)).sum())
}

fn fill(random: &mut Random) -> u64 {
    const CHUNK: [u8; 4096] = [7; 4096];
    let mut buffers: [Vec<u8>; BUFFERS] = Default::default();
    let ends: [usize; BUFFERS] = std::array::from_fn(|_| random.between(512 << 10, 4 << 20));
    while let Some(at) = (0..BUFFERS).find(|&at| buffers[at].len() < ends[at]) {
        // Any buffer that has not reached its end; the first such one often enough that the loop ends soon.
        let chosen = random.below(BUFFERS);
        let chosen = if buffers[chosen].len() < ends[chosen] {
            chosen
        } else {
            at
        };
        buffers[chosen].extend_from_slice(&CHUNK[..random.between(1024, 4096)]);
    }
    buffers.iter().map(|buffer| buffer.len() as u64).sum()
}
