//! Boxes of five types, a thousand or so at a time, dropped in the opposite order, in the same order, or at random.
//!
//! Stresses the fast path where the compiler knows every size, on the way in and on the way out.

use std::collections::VecDeque;

use super::Load;
use crate::Random;

/// Boxes of one thread in use at a time.
const IN_USE: usize = 1_000;
/// Boxes in all.
const WORK: usize = 20_000_000;

/// A value of one of five sizes, as the nodes of a syntax tree are.
enum Node {
    Word(Box<u64>),
    Pair(Box<[u64; 2]>),
    Small(Box<[u64; 5]>),
    Medium(Box<[u64; 12]>),
    Large(Box<[u64; 40]>),
}

impl Node {
    fn new(random: &mut Random) -> Self {
        let value = u64::from(random.bits());
        match value % 8 {
            0..=2 => Self::Word(Box::new(value)),
            3..=4 => Self::Pair(Box::new([value; 2])),
            5 => Self::Small(Box::new([value; 5])),
            6 => Self::Medium(Box::new([value; 12])),
            _ => Self::Large(Box::new([value; 40])),
        }
    }

    /// Its value. Drops the box.
    fn value(self) -> u64 {
        match self {
            Self::Word(value) => *value,
            Self::Pair(values) => values[1],
            Self::Small(values) => values[4],
            Self::Medium(values) => values[11],
            Self::Large(values) => values[39],
        }
    }
}

pub(super) fn lifo(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, mut random| {
        let mut nodes = Vec::with_capacity(IN_USE);
        let mut sum: u64 = 0;
        for _ in 0..(work / IN_USE).max(1) {
            nodes.extend((0..IN_USE).map(|_| Node::new(&mut random)));
            while let Some(node) = nodes.pop() {
                sum += node.value();
            }
        }
        sum
    })
}

pub(super) fn fifo(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, mut random| {
        let mut nodes = VecDeque::with_capacity(IN_USE + 1);
        let mut sum: u64 = 0;
        for _ in 0..work {
            nodes.push_back(Node::new(&mut random));
            if nodes.len() > IN_USE {
                sum += nodes.pop_front().map_or(0, Node::value);
            }
        }
        sum + nodes.into_iter().map(Node::value).sum::<u64>()
    })
}

pub(super) fn random(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|_, mut random| {
        let mut nodes: Vec<Node> = (0..IN_USE).map(|_| Node::new(&mut random)).collect();
        let mut sum: u64 = 0;
        for _ in 0..work {
            let place = random.below(IN_USE);
            let new = Node::new(&mut random);
            sum += std::mem::replace(&mut nodes[place], new).value();
        }
        sum + nodes.into_iter().map(Node::value).sum::<u64>()
    })
}
