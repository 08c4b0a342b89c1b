//! The types of a walk: what is asked, what each shrinker did, what came of it all.

use std::time::Duration;

use crate::name::Name;
use crate::pressure::Outcome;
use crate::shrink::Lane;
use crate::sync::nanoseconds;

/// One walk over all shrinkers.
///
/// The walk goes over the list once for `node` and then once for each other of the `nodes` nodes, in turn
/// (`node + 1`, ..., wrapping around). Node-aware shrinkers are called in each turn, for that turn's node; all others
/// in the first turn alone. So one call serves a machine of any size, with the caller's own node first.
///
/// Who reclaims for a request descends through the priorities with the shrinkers of the lowest value alone
/// ([`max_value`](Self::max_value)), then with those of the next value too, and so on
/// ([`ShrinkerList::value_after`](crate::ShrinkerList::value_after)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The node to begin with: the one that is short of memory.
    pub node: u32,
    /// How many nodes to go through. 1 restricts the walk to `node`; 0 means 1.
    pub nodes: u32,
    /// From 12 ([`DEF_PRIORITY`](crate::DEF_PRIORITY)), 1/4096 of each cache, to 0.
    pub priority: u8,
    /// Ask for everything, however small the cache and whatever its seeks. The last pass before an allocation fails.
    pub exhaustive: bool,
    /// How many bytes are wanted; 0 when that is not known. With a goal a shrinker is not asked for its whole share at
    /// once: the visitor runs whenever so many bytes were freed, and may end the walk.
    pub goal: usize,
    /// How long the walk may take: afterwards no callback is begun. `None` is for ever.
    pub limit: Option<Duration>,
    /// Only shrinkers of at most this [`value`](crate::Shrinker::value).
    pub max_value: u8,
    /// Which lane this is: a walk on a reclaim thread calls the shrinkers that run there, and those of the other lane
    /// that have work put off.
    pub lane: Lane,
    /// In the sync lane: call also those that were moved to the other one for being late. For where no thread serves that.
    pub moved: bool,
    /// Leave to a reclaim thread what was put off before, but for remainders of less than a batch, and do this walk's own share
    /// alone: who comes by when a cache is long behind need not pay for all of that. For where a thread serves the other lane.
    pub own_share: bool,
    /// Look at so many objects of each shrinker, whatever the priority and the seeks, and put nothing off; 0 for what the
    /// priority says.
    pub objects: usize,
    /// For how long whoever is short of memory has got nothing: see [`WalkReport::pending`].
    pub fruitless: Duration,
    /// A bit for each [`class`](crate::Shrinker::class) of shrinkers that are not to be called.
    pub without: u8,
}

impl Default for Walk {
    /// The gentlest walk, on a machine with one node.
    fn default() -> Self {
        Self {
            node: 0,
            nodes: 1,
            priority: crate::DEF_PRIORITY,
            exhaustive: false,
            goal: 0,
            limit: None,
            max_value: u8::MAX,
            lane: Lane::Sync,
            moved: false,
            own_share: false,
            objects: 0,
            fruitless: Duration::ZERO,
            without: 0,
        }
    }
}

impl Walk {
    /// When the time is up, for a walk that begins at `now`.
    pub(crate) fn until(&self, now: u64) -> u64 {
        self.limit
            .map_or(u64::MAX, |limit| now.saturating_add(nanoseconds(limit)))
    }

    /// Since when there was nothing to be had, for a walk that begins at `now`.
    pub(crate) fn since(&self, now: u64) -> u64 {
        now.saturating_sub(nanoseconds(self.fruitless))
    }

    /// The node of a turn, if there is such a turn.
    pub(crate) fn turn(&self, turn: u32) -> Option<u32> {
        let nodes = u64::from(self.nodes.max(1));
        let (first, turn) = (u64::from(self.node), u64::from(turn));
        // A first node beyond the others is gone to as well, before them.
        let node = (first + turn) % nodes.max(first + 1);
        (turn < nodes).then_some(node as u32)
    }
}

/// What one shrinker did for one node, since the visitor last heard of it. Given to the visitor of a walk.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Visit<'a> {
    pub(crate) name: &'a Name,
    /// The node it was called for; 0 when it is not node-aware.
    pub node: u32,
    /// Objects it freed.
    pub objects: usize,
    /// Bytes it freed, as far as it knows.
    pub bytes: usize,
    /// Objects it looked at.
    pub scanned: usize,
    /// It answered [`Scan::Stop`](crate::Scan::Stop), or [`Count::Unknown`](crate::Count::Unknown).
    pub stopped: bool,
    /// There is more to do: this is a pause, because the walk has a [`goal`](Walk::goal). Others may come into the callbacks
    /// in it; then the rest is put off.
    pub pause: bool,
    /// It overran its deadline time and again, and runs on the reclaim thread from now on.
    pub moved: bool,
}

impl<'a> Visit<'a> {
    pub(crate) fn new(name: &'a Name, node: u32, outcome: &Outcome, pause: bool) -> Self {
        Self {
            name,
            node,
            objects: outcome.objects,
            bytes: outcome.bytes,
            scanned: outcome.scanned,
            stopped: outcome.stopped,
            pause,
            moved: outcome.moved,
        }
    }

    /// The shrinker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// What came of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkReport {
    /// Calls of shrinkers (a node-aware one counts once per node).
    pub visited: usize,
    /// Shrinkers passed over because another thread was in them, or had come into them in a pause.
    pub skipped_busy: usize,
    /// Of those, in an [exhaustive](Walk::exhaustive) walk, the ones worth waiting for: nobody has asked them for everything and
    /// got nothing during the time that the walk was told of ([`Walk::fruitless`]), and the thread in them is not there for
    /// longer than a callback may take, or a tenth of a second.
    pub pending: usize,
    /// Calls that ended in [`Scan::Stop`](crate::Scan::Stop) or [`Count::Unknown`](crate::Count::Unknown): whoever is short of
    /// memory should ask again.
    pub stopped: usize,
    /// Objects freed.
    pub objects: usize,
    /// Bytes freed, as far as the caches know.
    pub bytes: usize,
    /// Objects looked at.
    pub scanned: usize,
    /// The visitor broke the walk off: the request is satisfied.
    pub satisfied: bool,
    /// The walk's time was up before it came to its end.
    pub timed_out: bool,
}

impl WalkReport {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.stopped += usize::from(outcome.stopped);
        self.timed_out |= outcome.timed_out;
        self.objects = self.objects.saturating_add(outcome.objects);
        self.bytes = self.bytes.saturating_add(outcome.bytes);
        self.scanned = self.scanned.saturating_add(outcome.scanned);
    }
}
