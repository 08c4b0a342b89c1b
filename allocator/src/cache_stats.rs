//! The object caches' figures, in the columns of the kernel's `/proc/slabinfo`. Nothing here allocates.

use core::fmt::{self, Write};

use ebb_shrinker::Name;

use crate::caches;
use crate::config::{PAGE, SLICE};
use crate::object_cache::{ObjectCache, Place, State};
use crate::topology;

/// The figures of one [`SlabCache`](crate::SlabCache), with the names that `/proc/slabinfo` has for them.
///
/// Shown it is a line of that file, under [`CacheStats::HEADER`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheStats {
    name: Name,
    /// Objects that the program holds.
    pub active_objs: u64,
    /// Objects that the slabs have room for.
    pub num_objs: u64,
    /// Bytes per object, as its slabs have them; of a cache that is watched ([`CacheDebug`](crate::CacheDebug)) as the
    /// program has them.
    pub objsize: u64,
    /// Objects per slab.
    pub objperslab: u64,
    /// Pages of 4 KiB per slab.
    pub pagesperslab: u64,
    /// Free objects that a CPU keeps at most.
    pub limit: u64,
    /// Objects that a CPU takes from slabs at once.
    pub batchcount: u64,
    /// Slabs with objects in use, or kept by a CPU.
    pub active_slabs: u64,
    /// Slabs.
    pub num_slabs: u64,
    /// Free objects that CPUs keep, about.
    pub sharedavail: u64,
}

impl CacheStats {
    /// What `/proc/slabinfo` has above its lines.
    pub const HEADER: &'static str = "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
        : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>";

    /// Its name, or the first 32 bytes of it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Bytes of its slabs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.num_slabs * self.pagesperslab * PAGE as u64
    }

    /// Names and values, for the writers.
    pub(crate) fn fields(&self) -> [(&'static str, u64); 10] {
        [
            ("active_objs", self.active_objs),
            ("num_objs", self.num_objs),
            ("objsize", self.objsize),
            ("objperslab", self.objperslab),
            ("pagesperslab", self.pagesperslab),
            ("limit", self.limit),
            ("batchcount", self.batchcount),
            ("active_slabs", self.active_slabs),
            ("num_slabs", self.num_slabs),
            ("sharedavail", self.sharedavail),
        ]
    }
}

impl fmt::Display for CacheStats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A space would be taken for the end of the name.
        for letter in self.name().chars() {
            out.write_char(if letter.is_whitespace() { '_' } else { letter })?;
        }
        for _ in self.name().chars().count()..17 {
            out.write_char(' ')?;
        }
        write!(
            out,
            " {:>6} {:>6} {:>6} {:>4} {:>4} : tunables {:>4} {:>4} {:>4} : slabdata {:>6} {:>6} {:>6}",
            self.active_objs,
            self.num_objs,
            self.objsize,
            self.objperslab,
            self.pagesperslab,
            self.limit,
            self.batchcount,
            0,
            self.active_slabs,
            self.num_slabs,
            self.sharedavail
        )
    }
}

/// What a cache has on one node, in objects.
#[derive(Clone, Copy)]
pub(crate) struct OnNode {
    pub(crate) slabs: usize,
    pub(crate) spare: bool,
    /// Objects free in slabs.
    pub(crate) free: usize,
    /// Objects in sheaves.
    pub(crate) cached: usize,
}

impl ObjectCache {
    /// What it has on a node. Takes its locks one after the other, each for a moment.
    pub(crate) fn on_node(&self, node: usize) -> OnNode {
        let machine = topology::machine();
        let here = self.places.iter().enumerate();
        let here = here.filter(|(cpu, _)| machine.home_of(*cpu) == node);
        let sheaf = |(_, place): (usize, &Place)| {
            let sheaf = place.0.lock();
            sheaf
                .as_ref()
                .map_or(0, |sheaf| sheaf.objects(self.class()).len())
        };
        let cached = here.map(sheaf).sum();
        let home = self.home(node);
        let spare = home.has_spare();
        OnNode {
            slabs: home.pool.slabs + usize::from(spare),
            spare,
            free: home.pool.free + usize::from(spare) * self.shape().capacity,
            cached,
        }
    }

    /// Its figures; nothing when it is over.
    pub(crate) fn stats(&self) -> Option<CacheStats> {
        let over = self.identity.lock().state == State::Over;
        (!over).then(|| self.figures())
    }

    /// The figures of a cache that is not over.
    pub(crate) fn figures(&self) -> CacheStats {
        let (shape, watched) = (self.shape(), self.places.is_empty());
        let mut stats = CacheStats {
            name: self.identity.lock().name,
            active_objs: 0,
            num_objs: 0,
            objsize: self.object_size() as u64,
            objperslab: shape.capacity as u64,
            pagesperslab: (shape.slices * SLICE / PAGE) as u64,
            limit: if watched { 0 } else { shape.sheaf as u64 },
            batchcount: if watched { 1 } else { shape.batch as u64 },
            active_slabs: 0,
            num_slabs: 0,
            sharedavail: 0,
        };
        for node in 0..self.homes.len() {
            let here = self.on_node(node);
            let objects = here.slabs * shape.capacity;
            stats.active_objs += objects.saturating_sub(here.free + here.cached) as u64;
            stats.num_objs += objects as u64;
            stats.active_slabs += (here.slabs - usize::from(here.spare)) as u64;
            stats.num_slabs += here.slabs as u64;
            stats.sharedavail += here.cached as u64;
        }
        stats
    }
}

/// Calls `f` with the figures of each [`SlabCache`](crate::SlabCache) there is, the youngest first, those closed with objects
/// in use too. Allocates nothing.
pub fn slab_caches(f: &mut dyn FnMut(&CacheStats)) {
    caches::made()
        .filter_map(ObjectCache::stats)
        .for_each(|stats| f(&stats));
}
