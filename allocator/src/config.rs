//! The numbers that shape the heap. Everything in bytes unless its name says otherwise.

/// The grain of the arenas: a slab or a span is a run of slices.
pub(crate) const SLICE: usize = 1 << SLICE_SHIFT;
/// See [`SLICE`].
pub(crate) const SLICE_SHIFT: u32 = 15;

/// Slices lie in units; no run crosses one. The size of a huge page.
pub(crate) const UNIT: usize = SLICE * UNIT_SLICES;
/// Slices in a unit: one bit each in a `u64`.
pub(crate) const UNIT_SLICES: usize = 64;

/// The tags of so much of the address space are in one piece: the first that the system grants room for, 64 MiB or 4. More
/// would count in what a program may set itself as a limit of addresses.
pub(crate) const WINDOWS: [usize; 2] = [1 << 40, 64 << 30];

/// The span map has one table per region of the address space.
pub(crate) const REGION: usize = 1 << REGION_SHIFT;
/// See [`REGION`].
pub(crate) const REGION_SHIFT: u32 = 30;
/// Slices in a region.
pub(crate) const REGION_SLICES: usize = REGION / SLICE;
/// Units in a region.
pub(crate) const REGION_UNITS: usize = REGION / UNIT;

/// Bits of a user-space address on 64-bit Linux (without 5-level paging, which is opt-in per mapping).
pub(crate) const ADDRESS_BITS: u32 = 47;

/// Address space is reserved in chunks of these sizes: the first that the system grants.
pub(crate) const CHUNKS: [usize; 3] = [64 << 20, 8 << 20, UNIT];

/// Bytes of a node's heap that are backed by small pages before it takes huge ones: a huge page is backed as a whole, and
/// a heap of this size gains little from fewer faults.
pub(crate) const SMALL_PAGES: usize = 8 << 20;

/// While less than this is in use there are no more huge units, however much lies free in slabs.
pub(crate) const DENSE: usize = 4 << 20;

/// The system's page. Linux on the supported architectures has 4 KiB; larger pages only make purging coarser.
pub(crate) const PAGE: usize = 4096;

/// Every object is aligned to this.
pub(crate) const MIN_ALIGN: usize = 16;

/// Sizes up to this have a class for each [`MIN_ALIGN`] bytes.
pub(crate) const MAX_FINE: usize = 1024;

/// Objects up to this size have a size class and lie in slabs.
pub(crate) const MAX_SMALL: usize = 256 << 10;

/// Blocks up to this size are spans of an arena; larger ones are mappings of their own.
pub(crate) const MAX_SPAN: usize = UNIT;

/// No block is larger: all addresses there are. The language allows more for one object, but there is no asking for it.
pub(crate) const MAX_SIZE: usize = 1 << ADDRESS_BITS;

/// Words per node in a CPU's table, one per tag value of that node.
pub(crate) const ROW: usize = 128;

/// The words of a row from this one on stand for nothing, and never change. At the beginning of a cache line.
pub(crate) const QUIET_WORD: usize = 104;

/// CPUs that are told apart. Where there may ever be more, there is no fast path.
pub(crate) const MAX_CPUS: usize = 1024;

/// NUMA nodes that are told apart. The memory of nodes beyond is not used.
pub(crate) const MAX_NODES: usize = 64;

/// Shards per node at most: more CPUs share them.
pub(crate) const SHARDS: usize = 8;

/// A shard tells its node what lies free in its slabs when that has changed by so many bytes.
pub(crate) const DRIFT: usize = 64 << 10;

/// A slab holds so many objects at least, if they are no more than [`SLAB_MOST`] bytes: with two of 16 KiB a
/// batch of 100 took 1.24 times the instructions.
pub(crate) const SLAB_LEAST: usize = 4;
/// See [`SLAB_LEAST`].
pub(crate) const SLAB_MOST: usize = 64 << 10;

/// Bytes of objects that one sheaf holds at most, when those are [`SHEAF_LEAST`] or more.
pub(crate) const SHEAF_BYTES: usize = 32 << 10;

/// A sheaf holds so many objects, if they are no more than [`SHEAF_MOST`] bytes. With fewer, each second allocation of
/// medium size went to the slabs: 20 blocks of 16 KiB in a row took 71 ns each, and take 11 now.
pub(crate) const SHEAF_LEAST: usize = 4;
/// See [`SHEAF_LEAST`].
pub(crate) const SHEAF_MOST: usize = 256 << 10;

/// Bytes of objects that a refill takes from slabs at once.
pub(crate) const BATCH_BYTES: usize = 16 << 10;

/// Bytes of objects that a class keeps in whole sheaves: about a CPU's cache.
pub(crate) const BARN_BYTES: usize = 1 << 20;

/// Bytes of objects that the barns of a shard keep at least, whatever is in use; each node its share.
pub(crate) const BARNS_FLOOR: usize = 512 << 10;

/// Bytes that may be kept for reuse in any case, unless that is set; and so may the part of what is in use that
/// [`KEEP_PART`] says, and the tide (`tide`).
pub(crate) const KEEP_FLOOR: usize = 10 << 20;
/// See [`KEEP_FLOOR`].
pub(crate) const KEEP_PART: usize = 8;

/// So many bytes of pieces that are too many are purged at once, for at most one part in so many of the time (`purge`).
pub(crate) const PIECES: usize = 1 << 20;
/// See [`PIECES`].
pub(crate) const PIECES_PART: u64 = 16;

/// When so many bytes and a slab are idle in a node's arena, a shard makes a slab of them before it borrows from others.
pub(crate) const IDLE_LEAST: usize = 2 << 20;

/// Of what is in use, this part may be kept in barns, each shard its share.
pub(crate) const BARNS_PART: usize = 32;

/// When the free objects in partly used slabs exceed this many bytes, each node its share, and what is in use, caches are
/// drained so that slabs come free.
pub(crate) const SCATTER_LOW: usize = 2 << 20;

/// The same, when they exceed this many bytes, each node its share, this part of what is in use, and much was freed.
pub(crate) const SCATTER_FLOOR: usize = 5 << 20;
/// See [`SCATTER_FLOOR`].
pub(crate) const SCATTER_PART: usize = 16;

/// A class of a shard is thin when more than so many bytes are free in its slabs, and less than this part of them is not.
pub(crate) const THIN_LEAST: usize = 96 << 10;
/// See [`THIN_LEAST`].
pub(crate) const THIN_PART: usize = 4;
