/* ebbmalloc: a memory allocator that gives memory back before it gives up.
 *
 * Generated from the crate ebbmalloc-ffi; changes made here are lost. To make it anew:
 * EBB_BLESS=1 cargo test -p ebb-tests --test header
 */

#ifndef EBBMALLOC_H
#define EBBMALLOC_H

#include <stddef.h>
#include <stdint.h>

/** The version this header belongs to. */
#define EBB_VERSION "0.1.0"

#if defined(__GNUC__)
#define EBB_ATTR(...) __attribute__((__VA_ARGS__))
#else
#define EBB_ATTR(...)
#endif

#if defined(__cplusplus)
#define EBB_NOTHROW noexcept
#elif defined(__GNUC__)
#define EBB_NOTHROW EBB_ATTR(nothrow)
#else
#define EBB_NOTHROW
#endif

/**
 * `ebb_set_numa_policy`: memory of the node on which it is allocated.
 */
#define EBB_NUMA_LOCAL 0

/**
 * `ebb_set_numa_policy`: every page from another node, by turns.
 */
#define EBB_NUMA_INTERLEAVE 1

/**
 * `ebb_set_numa_policy`: whatever the system does, which is memory of the node that touches it first.
 */
#define EBB_NUMA_OFF 2

/**
 * `ebb_write_stats`: text for people.
 */
#define EBB_STATS_TEXT 0

/**
 * `ebb_write_stats`: one JSON object.
 */
#define EBB_STATS_JSON 1

/**
 * `count` answers: there is nothing to free.
 */
#define EBB_COUNT_EMPTY 0

/**
 * `count` answers: cannot tell now, a lock is held. The cache is passed over this time.
 */
#define EBB_COUNT_UNKNOWN 1

/**
 * `count` answers: so many objects as `*result` says could be freed.
 */
#define EBB_COUNT_OBJECTS 2

/**
 * `scan` answers: it looked at objects and freed those that `*result` says, perhaps none.
 */
#define EBB_SCAN_FREED 0

/**
 * `scan` answers: it can do nothing now, a lock is held. The cache is left alone for this walk.
 */
#define EBB_SCAN_STOP 1

/**
 * `flags`: the cache keeps its objects by NUMA node and looks at `control->node`.
 */
#define EBB_SHRINKER_NODE_AWARE 1

/**
 * `flags`: the callbacks run on a reclaim thread while those who are short of memory wait a little. They may block on
 * locks, allocate some, and take long.
 */
#define EBB_SHRINKER_ASYNC 2

/**
 * `seeks` of a cache whose objects cost nothing to make again: half of them go at once.
 */
#define EBB_SEEKS_NONE UINT32_MAX

/**
 * Bytes of a name in `ebb_shrinker_stats_t`, with the NUL and some to spare.
 */
#define EBB_NAME_BYTES 40

/**
 * `ebb_pressure`: there is no budget, or less than three quarters of it are backed.
 */
#define EBB_PRESSURE_NONE 0

/**
 * `ebb_pressure`: three quarters of the budget are backed.
 */
#define EBB_PRESSURE_LOW 1

/**
 * `ebb_pressure`: seven eighths of the budget are backed: caches had better stop growing.
 */
#define EBB_PRESSURE_MEDIUM 2

/**
 * `ebb_pressure`: almost all of the budget is backed: allocations are about to call shrinkers, or do.
 */
#define EBB_PRESSURE_CRITICAL 3

/**
 * `ebb_mode_begin`: everything but the last chance: no notifier is called and nothing is reported.
 */
#define EBB_MODE_RETRY_MAY_FAIL 1

/**
 * `ebb_mode_begin`: one descent over the shrinkers, and no waiting.
 */
#define EBB_MODE_NO_RETRY 2

/**
 * `ebb_mode_begin`: an allocation that does not fit fails at once. It may have five eighths of the reserve.
 */
#define EBB_MODE_NO_WAIT 3

/**
 * `ebb_mode_begin`: everything is tried, and when that was in vain an allocation is charged beyond the budget, and beyond that
 * of its node, however large it is: only the system can refuse it. For code that cannot go back, such as a library that exits
 * on NULL. What is freed next makes up for the excess, and until then other allocations fail. Beside another mode, or after
 * ebb_no_reclaim_begin(), no more is tried than that says, and then it is charged all the same.
 */
#define EBB_MODE_NO_FAIL 4

/**
 * An object cache.
 */
typedef struct ebb_cache_t ebb_cache_t;

/**
 * Locks that do the same work in the program: what the check of locks knows of them.
 */
typedef struct ebb_lock_class_t ebb_lock_class_t;

/**
 * What was registered: a shrinker, a last chance, or a listener to the pressure.
 */
typedef struct ebb_shrinker_t ebb_shrinker_t;

/**
 * The totals that `ebb_get_stats` gives. Later versions add fields at the end.
 */
typedef struct ebb_stats_t {
  /**
   * `sizeof(ebb_stats_t)`, set by the caller.
   */
  size_t size;
  /**
   * Bytes backed by the operating system.
   */
  uint64_t backed;
  /**
   * The budget, in bytes; 0 when there is none.
   */
  uint64_t budget;
  /**
   * The reserve, in bytes.
   */
  uint64_t reserve;
  /**
   * Bytes in blocks that the program holds, as their size classes count them.
   */
  uint64_t in_use;
  /**
   * Bytes in free blocks kept close to the CPUs.
   */
  uint64_t cached;
  /**
   * Bytes in whole free spans that are still backed.
   */
  uint64_t free_spans;
  /**
   * Bytes in large blocks that have a mapping of their own.
   */
  uint64_t mapped;
  /**
   * Bytes of the allocator's own bookkeeping.
   */
  uint64_t metadata;
  /**
   * Times an allocation met the budget's limit or the operating system's.
   */
  uint64_t failures;
  /**
   * Reclaims run because of that.
   */
  uint64_t reclaims;
  /**
   * Reclaims after which the allocation succeeded.
   */
  uint64_t satisfied;
  /**
   * Reclaims after which it still failed.
   */
  uint64_t failed;
  /**
   * Walks over the shrinkers.
   */
  uint64_t walks;
  /**
   * Bytes freed by reclaims and credited to the allocation that asked.
   */
  uint64_t bytes_credited;
  /**
   * Time spent in reclaims, in nanoseconds.
   */
  uint64_t reclaim_ns_total;
  /**
   * The longest reclaim, in nanoseconds.
   */
  uint64_t reclaim_ns_max;
  /**
   * Times the CPUs' free blocks were drained.
   */
  uint64_t drains;
  /**
   * Times free spans were given back.
   */
  uint64_t purges;
  /**
   * Of those satisfied, reclaims that only waited for others.
   */
  uint64_t followed;
  /**
   * Bytes that shrinkers say they freed beyond what a satisfied request had lacked.
   */
  uint64_t bytes_excess;
  /**
   * Times a request waited for the reclaim thread.
   */
  uint64_t waits;
  /**
   * Times the last chances were called.
   */
  uint64_t last_chances;
  /**
   * Shrinkers moved to the reclaim thread for being late.
   */
  uint64_t moved;
  /**
   * Allocations that were not allowed to fail (`EBB_MODE_NO_FAIL`) and were served when all else had failed.
   */
  uint64_t forced;
  /**
   * Bytes that were charged beyond the budget for them; budgets of nodes do not count here.
   */
  uint64_t bytes_forced;
  /**
   * The soft limit, in bytes; 0 when there is none.
   */
  uint64_t soft_limit;
  /**
   * Times a reclaim thread began because more was backed than the soft limit.
   */
  uint64_t soft_reclaims;
  /**
   * Bytes that it gave back then, but for those that exceeded the budget.
   */
  uint64_t bytes_soft;
} ebb_stats_t;

/**
 * What `ebb_get_node_stats` gives. Later versions add fields at the end.
 *
 * The counters are those of the kernel's numastat, in blocks: objects that were taken for a CPU, one by one or many at a
 * time, and larger blocks.
 */
typedef struct ebb_node_stats_t {
  /**
   * `sizeof(ebb_node_stats_t)`, set by the caller.
   */
  size_t size;
  /**
   * Bytes backed by the operating system, for blocks and free spans.
   */
  uint64_t backed;
  /**
   * The node's budget, in bytes; 0 when there is none.
   */
  uint64_t budget;
  /**
   * Bytes in blocks that the program holds.
   */
  uint64_t in_use;
  /**
   * Bytes in free blocks in partly used slabs.
   */
  uint64_t free;
  /**
   * Bytes in free blocks kept close to the CPUs.
   */
  uint64_t cached;
  /**
   * Bytes in whole free spans that are still backed.
   */
  uint64_t free_spans;
  /**
   * Blocks it gave because it was asked.
   */
  uint64_t hit;
  /**
   * Blocks it gave because another had nothing left.
   */
  uint64_t miss;
  /**
   * Blocks it was asked for and another gave.
   */
  uint64_t foreign;
  /**
   * Of its hits, those that it gave because it was its turn.
   */
  uint64_t interleave;
  /**
   * Blocks it gave to threads on its own CPUs.
   */
  uint64_t local;
  /**
   * Blocks it gave to threads on others' CPUs.
   */
  uint64_t other;
} ebb_node_stats_t;

/**
 * What a walk tells a callback. Which slabs are sparsest it does not say: `ebb_cache_sparsest` and `ebb_cache_occupancy` do.
 */
typedef struct ebb_shrink_control_t {
  /**
   * The NUMA node to free memory on; 0 unless the shrinker is node-aware.
   */
  uint32_t node;
  /**
   * How hard memory is needed: 12 is gentle, 0 is everything there is.
   */
  uint32_t priority;
  /**
   * `scan`: how many objects to look at, at most. 0 in `count`.
   */
  size_t to_scan;
  /**
   * `scan` may set this to how many objects it looked at, freed or not; it comes set to `to_scan`.
   */
  size_t scanned;
  /**
   * How many bytes the request still lacks, about; 0 when nobody knows.
   */
  size_t goal;
  /**
   * How much time this callback has left, in nanoseconds; `UINT64_MAX` when nobody hurries.
   */
  uint64_t time_left_ns;
} ebb_shrink_control_t;

/**
 * What `count` found.
 */
typedef struct ebb_count_result_t {
  /**
   * Objects that could be freed. Comes set to 0.
   */
  size_t objects;
  /**
   * How many bytes one of them has, about, or 0 when the cache does not know. Comes set to `object_size` of
   * `ebb_shrinker_ops_t`: a cache whose objects vary says what those are that it has now.
   */
  size_t object_size;
} ebb_count_result_t;

/**
 * Says how many objects could be freed, about, and perhaps how large they are. Must be quick. Answers `EBB_COUNT_...`.
 */
typedef int (*ebb_count_fn)(void *context,
                            const struct ebb_shrink_control_t *control,
                            struct ebb_count_result_t *result);

/**
 * What `scan` freed.
 */
typedef struct ebb_scan_result_t {
  /**
   * Objects freed. Comes set to 0.
   */
  size_t objects;
  /**
   * Bytes freed, or 0 when the cache does not know: then the size that `count` said is taken. Comes set to 0.
   */
  size_t bytes;
} ebb_scan_result_t;

/**
 * Frees up to `control->to_scan` objects, the least useful first. Answers `EBB_SCAN_...`.
 */
typedef int (*ebb_scan_fn)(void *context,
                           struct ebb_shrink_control_t *control,
                           struct ebb_scan_result_t *result);

/**
 * A cache that can give memory back.
 *
 * Unless `EBB_SHRINKER_ASYNC` is set, the callbacks run in the middle of a failing allocation, on whatever thread made it:
 * they take a lock only by trying, wait for nothing, allocate as little as they can and return before their deadline.
 * They never throw or jump out: what a C++ exception or a `longjmp` that leaves one does is undefined. They never run twice
 * at the same time for one shrinker. Fields left 0 have the usual values.
 */
typedef struct ebb_shrinker_ops_t {
  /**
   * A name in UTF-8 for the statistics; its first 32 bytes are copied.
   */
  const char *name;
  /**
   * See `ebb_count_fn`.
   */
  ebb_count_fn count;
  /**
   * See `ebb_scan_fn`.
   */
  ebb_scan_fn scan;
  /**
   * Handed to the callbacks.
   */
  void *context;
  /**
   * What an object costs to make again: 2 is usual and what 0 stands for; `EBB_SEEKS_NONE` is nothing. Whoever knows better
   * later says so by `ebb_shrinker_set_seeks`.
   */
  uint32_t seeks;
  /**
   * `EBB_SHRINKER_...`, or 0. Others are refused.
   */
  uint32_t flags;
  /**
   * How many objects one `scan` is asked for at most; 0 stands for 128.
   */
  size_t batch;
  /**
   * How many bytes an object has, about, unless `count` says so each time; 0 when that is not known. Caches share the
   * pressure by bytes.
   */
  size_t object_size;
  /**
   * How dear the content is, from 1 to 8; 0 stands for 4. Lower ones are asked first.
   */
  uint32_t value;
  /**
   * A number below 8, for `ebb_no_shrinker_begin`.
   */
  uint32_t shrinker_class;
  /**
   * How long one callback may take, in microseconds; 0 stands for 20,000. Whoever is late in three visits in a row,
   * no more than a minute apart, is moved to the reclaim thread. A request that finds another thread in it waits for so
   * long, or a tenth of a second.
   */
  uint64_t deadline_us;
} ebb_shrinker_ops_t;

/**
 * What `ebb_get_shrinker_stats` gives. Later versions add fields at the end.
 */
typedef struct ebb_shrinker_stats_t {
  /**
   * `sizeof(ebb_shrinker_stats_t)`, set by the caller.
   */
  size_t size;
  /**
   * A number that no other shrinker has or had.
   */
  uint64_t id;
  /**
   * Its name: at most 32 bytes, and a NUL.
   */
  char name[EBB_NAME_BYTES];
  /**
   * How dear its content is.
   */
  uint32_t value;
  /**
   * Its class.
   */
  uint32_t shrinker_class;
  /**
   * What an object costs to make again, as was said last; `EBB_SEEKS_NONE` for nothing.
   */
  uint32_t seeks;
  /**
   * 1 where it is called once per NUMA node.
   */
  uint32_t node_aware;
  /**
   * 1 where its callbacks run on the reclaim thread.
   */
  uint32_t is_async;
  /**
   * 1 where it was moved there for being late.
   */
  uint32_t moved;
  /**
   * 1 where a callback panicked, which callbacks in C do not: it is called no more.
   */
  uint32_t quarantined;
  /**
   * 1 where it is being unregistered or retired.
   */
  uint32_t dying;
  /**
   * Times that a walk called it.
   */
  uint64_t calls;
  /**
   * Calls of `scan`.
   */
  uint64_t scans;
  /**
   * Objects looked at.
   */
  uint64_t scanned;
  /**
   * Objects freed.
   */
  uint64_t objects;
  /**
   * Bytes freed, as far as the cache knows.
   */
  uint64_t bytes;
  /**
   * Times it answered `EBB_SCAN_STOP`.
   */
  uint64_t stops;
  /**
   * Times a walk passed it over because another thread was in it.
   */
  uint64_t skipped_busy;
  /**
   * Calls whose figures could not be true, or that used up their scan calls.
   */
  uint64_t misreports;
  /**
   * Times its work was broken off because the walk's time was up.
   */
  uint64_t timeouts;
  /**
   * Calls in which a callback overran its deadline.
   */
  uint64_t overruns;
  /**
   * Work put off to later walks: in bytes, or in objects where it never said how large they are.
   */
  uint64_t deferred;
  /**
   * Time spent in its callbacks, in nanoseconds.
   */
  uint64_t time_ns_total;
  /**
   * Half of the callbacks took no longer, in nanoseconds, to the next power of two.
   */
  uint64_t time_ns_p50;
  /**
   * 99 of 100 took no longer, in nanoseconds, to the next power of two.
   */
  uint64_t time_ns_p99;
  /**
   * The longest single callback, in nanoseconds.
   */
  uint64_t time_ns_max;
  /**
   * The system's number of the thread that is in its callbacks; 0 when none is.
   */
  uint64_t held_by;
  /**
   * How long that thread has been there, in nanoseconds.
   */
  uint64_t held_ns;
} ebb_shrinker_stats_t;

/**
 * Frees what it can, in any way, when everything else was tried; gives how many bytes that were. `lacking` is how many
 * bytes the request lacks, or 0 when nobody knows.
 */
typedef size_t (*ebb_last_chance_fn)(void *context, size_t lacking);

/**
 * Is told the new level, `EBB_PRESSURE_...`.
 */
typedef void (*ebb_listener_fn)(void *context, int pressure);

/**
 * Makes an object, or ends one.
 */
typedef void (*ebb_object_fn)(void *context, void *object);

/**
 * What an object cache is to be. Fields left 0 have the usual values.
 */
typedef struct ebb_cache_ops_t {
  /**
   * A name in UTF-8 for the statistics; its first 32 bytes are copied.
   */
  const char *name;
  /**
   * Bytes per object: at most 256 KiB.
   */
  size_t object_size;
  /**
   * A power of two, at most 32 KiB; 0 stands for 16.
   */
  size_t alignment;
  /**
   * Called for every object of a slab when the slab is built, or NULL.
   */
  ebb_object_fn construct;
  /**
   * Called for every object of a slab when the slab goes back, or NULL.
   */
  ebb_object_fn destroy;
  /**
   * Handed to both.
   */
  void *context;
  /**
   * What its objects are watched for, beside what `EBB_CACHE_DEBUG` says: letters of "FZPU" as there, or NULL for
   * nothing. Such a cache is slow, for debugging: see the README.
   */
  const char *debug;
} ebb_cache_ops_t;

/**
 * How full a slab is.
 */
typedef struct ebb_occupancy_t {
  /**
   * Objects in use, with free ones that a CPU keeps.
   */
  size_t in_use;
  /**
   * Objects that it has room for.
   */
  size_t capacity;
} ebb_occupancy_t;

/**
 * Is shown `count` objects of a slab, at least 1 and at most 128, and how full the slab is. Gives 0 to go on, anything else to
 * stop.
 */
typedef int (*ebb_visit_fn)(void *context,
                            void *const *objects,
                            size_t count,
                            const struct ebb_occupancy_t *slab);

/**
 * What `ebb_get_cache_stats` gives, with the names that `/proc/slabinfo` has. Later versions add fields at the end.
 */
typedef struct ebb_cache_stats_t {
  /**
   * `sizeof(ebb_cache_stats_t)`, set by the caller.
   */
  size_t size;
  /**
   * Objects that the program holds.
   */
  uint64_t active_objs;
  /**
   * Objects that the slabs have room for.
   */
  uint64_t num_objs;
  /**
   * Bytes per object, as its slabs have them.
   */
  uint64_t objsize;
  /**
   * Objects per slab.
   */
  uint64_t objperslab;
  /**
   * Pages of 4 KiB per slab.
   */
  uint64_t pagesperslab;
  /**
   * Free objects that a CPU keeps at most.
   */
  uint64_t limit;
  /**
   * Objects that a CPU takes from slabs at once.
   */
  uint64_t batchcount;
  /**
   * Slabs with objects in use, or kept by a CPU.
   */
  uint64_t active_slabs;
  /**
   * Slabs.
   */
  uint64_t num_slabs;
  /**
   * Free objects that CPUs keep, about.
   */
  uint64_t sharedavail;
} ebb_cache_stats_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * A new block of at least `size` bytes, aligned for any standard type. Its contents are undefined.
 *
 * A size of 0 gives a block of its own, to be freed like any other. When the memory is not there, under the budget or
 * at all, and the registered shrinkers cannot make it: NULL, and `errno` is ENOMEM.
 *
 */
EBB_ATTR(malloc, alloc_size(1))
void *ebb_malloc(size_t size)
EBB_NOTHROW;

/**
 * A new block for `count` elements of `size` bytes each, all bytes zero.
 *
 * Otherwise as `ebb_malloc`. A product that overflows gives NULL, and `errno` is ENOMEM.
 *
 */
EBB_ATTR(malloc, alloc_size(1, 2)) void *ebb_calloc(size_t count, size_t size) EBB_NOTHROW;

/**
 * Changes a block's size to at least `size` bytes, moving it where needed, and gives its address.
 *
 * The contents up to the smaller of both sizes are kept. `block` may be NULL: that is `ebb_malloc(size)`. A size of 0
 * frees the block and gives NULL, with `errno` as it was. On failure: NULL, `errno` is ENOMEM, and the old block is
 * still there, unchanged.
 *
 * # Safety
 *
 * `block` is NULL or a live block of this allocator. Its old address is not used after a success.
 *
 */
EBB_ATTR(alloc_size(2))
void *ebb_realloc(void *block,
                  size_t size)
EBB_NOTHROW;

/**
 * A new block of at least `size` bytes on the NUMA node that the kernel calls `node`, and nowhere else.
 *
 * With several nodes its pages are backed at once. NULL, and `errno` is ENOMEM, when the node has no memory left, there
 * is no such node, or the system does not let the process see where its pages lie. Reclaim touches that node alone.
 *
 */
EBB_ATTR(malloc, alloc_size(1))
void *ebb_malloc_on_node(size_t size,
                         uint32_t node)
EBB_NOTHROW;

/**
 * A new block of at least `size` bytes, spread over all NUMA nodes: page by page when it is larger than 2 MiB, otherwise
 * each block comes whole from the next node. Otherwise as `ebb_malloc`.
 *
 */
EBB_ATTR(malloc, alloc_size(1))
void *ebb_malloc_interleaved(size_t size)
EBB_NOTHROW;

/**
 * The NUMA node that a block belongs to, as the kernel calls it; -1 for large blocks that are spread, for what is no block
 * of this allocator, and when nodes are not told apart.
 */
int ebb_node_of(const void *block)
EBB_NOTHROW;

/**
 * As `ebb_realloc` to `count` elements of `size` bytes each.
 *
 * A product that overflows gives NULL, `errno` is ENOMEM, and the old block is still there.
 *
 * # Safety
 *
 * As `ebb_realloc`.
 *
 */
EBB_ATTR(alloc_size(2, 3))
void *ebb_reallocarray(void *block,
                       size_t count,
                       size_t size)
EBB_NOTHROW;

/**
 * Frees a block. NULL is allowed and does nothing. `errno` is kept.
 *
 * A pointer that is recognised as no live block of this allocator ends the program with one line that says so.
 *
 * # Safety
 *
 * `block` is NULL or a live block of this allocator, and is not used again.
 */
void ebb_free(void *block)
EBB_NOTHROW;

/**
 * Frees a block as `ebb_free` does. `size`, in bytes, is what was asked for it.
 *
 * # Safety
 *
 * As `ebb_free`.
 */
void ebb_free_sized(void *block, size_t size) EBB_NOTHROW;

/**
 * Frees a block as `ebb_free` does. `alignment` and `size`, in bytes, are what was asked for it.
 *
 * # Safety
 *
 * As `ebb_free`.
 */
void ebb_free_aligned_sized(void *block, size_t alignment, size_t size) EBB_NOTHROW;

/**
 * A new block of at least `size` bytes at a multiple of `alignment`, which is a power of two.
 *
 * Any size goes with any alignment. An alignment that is no power of two gives NULL, and `errno` is EINVAL; otherwise
 * as `ebb_malloc`.
 *
 */
EBB_ATTR(malloc, alloc_align(1), alloc_size(2))
void *ebb_aligned_alloc(size_t alignment,
                        size_t size)
EBB_NOTHROW;

/**
 * A new block of at least `size` bytes at a multiple of `alignment`, written to `*out`.
 *
 * Gives 0, or EINVAL when `alignment` is not a power of two times `sizeof(void *)`, or ENOMEM. On failure `*out` and
 * `errno` are as they were.
 *
 * # Safety
 *
 * `out` may be written.
 *
 */
EBB_ATTR(nonnull(1))
int ebb_posix_memalign(void **out,
                       size_t alignment,
                       size_t size)
EBB_NOTHROW;

/**
 * As `ebb_aligned_alloc`, but an alignment that is no power of two is rounded up to one.
 *
 * One that cannot be rounded up gives NULL, and `errno` is EINVAL.
 *
 */
EBB_ATTR(malloc, alloc_size(2)) void *ebb_memalign(size_t alignment, size_t size) EBB_NOTHROW;

/**
 * A new block of at least `size` bytes that starts at a page; otherwise as `ebb_malloc`.
 *
 */
EBB_ATTR(malloc, alloc_size(1)) void *ebb_valloc(size_t size) EBB_NOTHROW;

/**
 * A new block of whole pages, at least `size` bytes; otherwise as `ebb_malloc`.
 *
 */
EBB_ATTR(malloc, alloc_size(1)) void *ebb_pvalloc(size_t size) EBB_NOTHROW;

/**
 * How many bytes of a block may be used: at least what was asked for. 0 for NULL.
 *
 * # Safety
 *
 * `block` is NULL or a live block of this allocator.
 */
size_t ebb_malloc_usable_size(const void *block) EBB_NOTHROW;

/**
 * A new block of at least `size` bytes, as C++ `operator new` gives it: never NULL.
 *
 * When the memory is not there, the C++ new handler is called as long as there is one, and then `std::bad_alloc` is
 * thrown. A program without a C++ library ends with one line on standard error. Freed by `ebb_free`.
 *
 */
EBB_ATTR(malloc, returns_nonnull, alloc_size(1))
void *ebb_new(size_t size);

/**
 * As `ebb_new`, at a multiple of `alignment`, which is a power of two; one that is not throws.
 *
 */
EBB_ATTR(malloc, returns_nonnull, alloc_align(2), alloc_size(1))
void *ebb_new_aligned(size_t size,
                      size_t alignment);

/**
 * Sets the budget: at most so many bytes backed by the operating system for the heap at any time. 0 is no budget.
 *
 * A budget below what is backed now is allowed: it holds for every allocation that would need more. It is this process's
 * alone. Without one shrinkers are asked only when the system refuses memory, which it hardly ever does where it overcommits.
 */
void ebb_set_budget(size_t bytes)
EBB_NOTHROW;

/**
 * The budget, in bytes; 0 when there is none.
 */
size_t ebb_get_budget(void) EBB_NOTHROW;

/**
 * How much memory this process may use, in bytes: what the machine has, or the lowest limit of the control groups (of the
 * container) that it is in, as far as it can see them. Read anew each time: a budget that is made of it does not follow when
 * the limit is changed.
 */
size_t ebb_memory_limit(void)
EBB_NOTHROW;

/**
 * Sets the reserve: so many bytes of the budget are kept from ordinary allocations. Those made inside shrinkers may use all of
 * it, as may those after ebb_no_reclaim_begin(); those under EBB_MODE_NO_WAIT five eighths. Unless set it is a sixty-fourth of
 * the budget, at least 64 KiB and at most 4 MiB.
 */
void ebb_set_reserve(size_t bytes)
EBB_NOTHROW;

/**
 * The reserve, in bytes; 0 without a budget, unless it was set.
 */
size_t ebb_get_reserve(void) EBB_NOTHROW;

/**
 * Sets the soft limit: when more bytes than that are backed, a reclaim thread, which is started then, gives back what is kept for
 * reuse and asks the registered caches, gently, until a sixteenth less is backed or they have given all that they are
 * ready to give; so that allocations find room, and none of them has to wait for the caches. 0, as at first, is none.
 *
 * Callbacks run as they do in the middle of an allocation, but on that thread. It has no effect where it is not below the
 * budget less the reserve. May be changed at any time.
 */
void ebb_set_soft_limit(size_t bytes)
EBB_NOTHROW;

/**
 * The same as a percentage of the budget, whatever that is at any time: 1 to 100; 0 is none. Gives 0, or EINVAL when it is more
 * than 100.
 */
int ebb_set_soft_limit_percent(uint32_t percent)
EBB_NOTHROW;

/**
 * The soft limit, in bytes; 0 when there is none, or when it is a percentage and there is no budget.
 */
size_t ebb_get_soft_limit(void)
EBB_NOTHROW;

/**
 * Sets how many bytes the NUMA node that the kernel calls `node` may back for blocks. 0 is no limit.
 *
 * Beyond it blocks come from the next nearest node. `ebb_pressure` does not look at it. Gives 0, or EINVAL when there is no such node.
 */
int ebb_set_node_budget(uint32_t node,
                        size_t bytes)
EBB_NOTHROW;

/**
 * The budget of the NUMA node that the kernel calls `node`, in bytes; 0 when it has none, or there is no such node.
 */
size_t ebb_get_node_budget(uint32_t node)
EBB_NOTHROW;

/**
 * Sets how many bytes of freed memory are kept for reuse in any case; more is only kept up to an eighth of what is in use.
 *
 * Unless that is set it is 10 MiB. Without a budget more is kept in two cases: free pieces of less than 2 MiB between
 * blocks in use, as much as these at most, for a while; and as much as the program was seen to take again within a second
 * after it was given back (half as much with every second that passes). A program that empties and fills more
 * than is kept pays for it with page faults, and is faster with more; 0 keeps the process as small as can be. What is
 * kept already stays until something is freed or ebb_purge() is called. Under a budget what is kept counts, and is given
 * back before any shrinker is asked.
 */
void ebb_set_keep(size_t bytes)
EBB_NOTHROW;

/**
 * How many bytes of freed memory are kept for reuse in any case, see ebb_set_keep().
 */
size_t ebb_get_keep(void) EBB_NOTHROW;

/**
 * Sets what is done about NUMA nodes: EBB_NUMA_LOCAL, EBB_NUMA_INTERLEAVE or EBB_NUMA_OFF, for memory that the system
 * backs from now on. What is kept for reuse goes back to it first; what is in use stays where it is.
 *
 * Gives 0, or EINVAL when there is no such policy, and when that is EBB_NUMA_LOCAL and the process began with another: nodes
 * are told apart from the first allocation on or never. Under the others requests for one node are refused.
 */
int ebb_set_numa_policy(int policy)
EBB_NOTHROW;

/**
 * What is done about NUMA nodes: EBB_NUMA_LOCAL, EBB_NUMA_INTERLEAVE or EBB_NUMA_OFF.
 */
int ebb_get_numa_policy(void) EBB_NOTHROW;

/**
 * How many bytes the operating system backs now: what the budget limits. Costs one read of memory.
 */
size_t ebb_backed(void) EBB_NOTHROW;

/**
 * Gives all memory that is kept but not in use back to the operating system; says how many bytes that were, about.
 *
 * Calls no shrinker.
 */
size_t ebb_purge(void)
EBB_NOTHROW;

/**
 * Asks the registered caches for memory before there is need: as an allocation does that lacks so many bytes, gently first,
 * until so many bytes less are backed or there is nothing left to be had; after ebb_purge(), which may be enough. Says how
 * many bytes less it were: fewer than that, where the caches have no more to give or are busy.
 *
 * For a program that knows before the allocator does: its container's limit was lowered (ebb_memory_limit() tells; a new
 * ebb_set_budget() alone frees nothing by itself), another process needs room, or a quiet hour has come. Works with and
 * without a budget. At most ten seconds; 0 at once inside a callback, and between ebb_no_reclaim_begin() and its end.
 */
size_t ebb_reclaim(size_t bytes)
EBB_NOTHROW;

/**
 * Asks the registered caches for everything that they have, whatever it is worth, and gives it back to the operating system with all
 * that is kept for reuse. Says how many bytes less are backed then. What `echo 2 > /proc/sys/vm/drop_caches` is to the
 * kernel's caches: for measurements that begin with empty caches, to see what is not cache, or before a long sleep.
 *
 * All are asked again until they free next to nothing, and what that is grows from time to time: a cache that is
 * filled meanwhile does not make it endless. One that another thread is in, or whose lock somebody holds, is waited for as by
 * an allocation, and may keep what it has. Works with and without a budget. At most ten seconds; 0 at once inside a callback, and
 * between ebb_no_reclaim_begin() and its end.
 */
size_t ebb_drop_caches(void)
EBB_NOTHROW;

/**
 * Switches the reports on standard error on, or with 0 off: they are on at first, unless the environment says
 * `EBB_REPORTS=0`.
 *
 * One is written when an allocation fails although everything was tried, at most every ten seconds; another, at most every ten
 * seconds, when one is charged beyond the budget because it may not fail (EBB_MODE_NO_FAIL); a third when a shrinker is moved
 * to the reclaim thread; a fourth when a lock is seen to be a deadlock in waiting.
 */
void ebb_set_reports(int on)
EBB_NOTHROW;

/**
 * The version of the library that is running, as `"1.2.3"`. Compare with `EBB_VERSION`, the header's.
 */
const char *ebb_version(void)
EBB_NOTHROW;

/**
 * Fills `*stats` with the totals of now. The caller sets `stats->size` to `sizeof *stats` first.
 *
 * Fields beyond that size are not written, so a program built with an older header works; afterwards `stats->size` is
 * how many bytes were. Gives 0, or EINVAL when the size is too small for the size field itself. Allocates nothing.
 *
 * # Safety
 *
 * As many bytes as `stats->size` says may be written.
 *
 */
EBB_ATTR(nonnull(1))
int ebb_get_stats(struct ebb_stats_t *stats)
EBB_NOTHROW;

/**
 * Fills `*stats` with the figures of the NUMA node that the kernel calls `node`, as `ebb_get_stats` does.
 *
 * Gives 0, or EINVAL when there is no such node or the size is too small for the size field itself.
 *
 * # Safety
 *
 * As many bytes as `stats->size` says may be written.
 *
 */
EBB_ATTR(nonnull(2))
int ebb_get_node_stats(uint32_t node,
                       struct ebb_node_stats_t *stats)
EBB_NOTHROW;

/**
 * Writes all statistics, the shrinkers' too, as a C string of at most `length` bytes with its closing NUL.
 *
 * `format` is `EBB_STATS_TEXT` or `EBB_STATS_JSON`. Gives the length that the whole text has, its NUL not counted, like
 * `snprintf`: the text is complete when that is below `length`. `buffer` may be NULL when `length` is 0. An unknown
 * format gives 0 and writes nothing. Allocates nothing.
 *
 * # Safety
 *
 * `length` bytes from `buffer` on may be written.
 */
size_t ebb_write_stats(char *buffer,
                       size_t length,
                       int format)
EBB_NOTHROW;

/**
 * Registers a cache: from now on allocations that would fail call it. `*out` is what unregisters it.
 *
 * Gives 0; or EINVAL when the name or a callback is missing, the name is not UTF-8, a flag is unknown, or the value or
 * class too high; or ENOMEM. On failure `*out` is as it was. May be called on any thread, also inside a callback. `*out` is
 * written before the first callback begins.
 *
 * Unregister before what the callbacks use is destroyed, static objects included: they may be called until the very end of the
 * process, also while its destructors run.
 *
 * # Safety
 *
 * `ops` may be read and `out` written. The callbacks may be called with the context by any thread until
 * `ebb_shrinker_unregister` has given 0.
 *
 */
EBB_ATTR(nonnull(1, 2))
int ebb_shrinker_register(const struct ebb_shrinker_ops_t *ops,
                          struct ebb_shrinker_t **out)
EBB_NOTHROW;

/**
 * The first half of `ebb_shrinker_register`: takes all memory that is needed, and calls nobody. The other half is
 * `ebb_shrinker_register_prepared`, which cannot fail: for a cache that must not be called before it is complete, or is
 * registered where it is too late to give up.
 *
 * Gives what `ebb_shrinker_register` gives, and what `*out` is goes to `ebb_shrinker_unregister` if it is not wanted after all.
 *
 * # Safety
 *
 * As `ebb_shrinker_register`.
 *
 */
EBB_ATTR(nonnull(1, 2))
int ebb_shrinker_prepare(const struct ebb_shrinker_ops_t *ops,
                         struct ebb_shrinker_t **out)
EBB_NOTHROW;

/**
 * Registers a cache that `ebb_shrinker_prepare` has prepared: from now on allocations that would fail call it. Allocates
 * nothing, and cannot fail for want of memory.
 *
 * Gives 0; or EINVAL when it is not only prepared, but registered or retired already, and for NULL. May be called on any thread,
 * also inside a callback of another. The callbacks may be running before this returns, and may use the handle.
 *
 * # Safety
 *
 * `shrinker` is NULL or what a function that registers or prepares has written, and not unregistered. Does not overlap with
 * other calls for it, but for those inside its callbacks.
 */
int ebb_shrinker_register_prepared(struct ebb_shrinker_t *shrinker)
EBB_NOTHROW;

/**
 * Unregisters a shrinker, a last chance or a listener, and waits until its callbacks have returned: after 0 they are never
 * called again.
 *
 * Inside a callback of its own it gives EDEADLK and does nothing. NULL gives 0. A shrinker that was prepared and never
 * registered is freed.
 *
 * # Safety
 *
 * `shrinker` is NULL or what a function that registers has written, and is used no more once this has given 0.
 */
int ebb_shrinker_unregister(struct ebb_shrinker_t *shrinker)
EBB_NOTHROW;

/**
 * As `ebb_shrinker_unregister`, but waits for nothing: no callback begins any more. Gives 0 when none is running either,
 * and then it is as if unregistered; else EBUSY, and is called again later, from any thread, until it gives 0.
 *
 * May be called inside a callback of its own, where it gives EBUSY. Instead of calling it again one may wait with
 * `ebb_shrinker_unregister`. NULL gives 0.
 *
 * # Safety
 *
 * `shrinker` is NULL or what a function that registers has written, and is used no more once this has given 0. Calls for
 * one shrinker do not overlap.
 */
int ebb_shrinker_retire(struct ebb_shrinker_t *shrinker)
EBB_NOTHROW;

/**
 * Says anew what an object costs to make again, as `seeks` in `ebb_shrinker_ops_t`: 0 stands for 2, `EBB_SEEKS_NONE` for
 * nothing. For a cache that measures it. Counts from the next visit on; work that was put off before stays as it is.
 *
 * Gives 0; or EINVAL after `ebb_shrinker_retire`. What is no cache is asked for no share, so for a last chance or a listener it
 * makes no difference. May be called on any thread, also inside a callback of its own. NULL gives 0.
 *
 * # Safety
 *
 * `shrinker` is NULL or what a function that registers has written, and not unregistered. Does not overlap with
 * `ebb_shrinker_retire` for it; nor with `ebb_shrinker_unregister`, but for a call inside a callback that this waits for.
 */
int ebb_shrinker_set_seeks(struct ebb_shrinker_t *shrinker,
                           uint32_t seeks)
EBB_NOTHROW;

/**
 * The number of the oldest shrinker of that name (its first 32 bytes); 0 when there is none, or for NULL.
 *
 * The statistics have the number of each. No other shrinker has or had the same.
 *
 * # Safety
 *
 * `name` is NULL or a C string.
 */
uint64_t ebb_shrinker_find(const char *name)
EBB_NOTHROW;

/**
 * Has one shrinker look at so many `objects` of a node, by hand and on this thread, and writes what it freed to
 * `*result`, unless that is NULL. For shrinkers that are not node-aware the node is 0.
 *
 * Gives 0; or EBUSY when another thread is in it, or it ended by a fault of its own; or ENOENT when there is none of that
 * number, or the call comes out of a callback. The caller holds no lock that the callbacks want.
 *
 * # Safety
 *
 * `result` is NULL or may be written.
 */
int ebb_shrinker_scan(uint64_t id,
                      uint32_t node,
                      size_t objects,
                      struct ebb_scan_result_t *result)
EBB_NOTHROW;

/**
 * Fills `*stats` with the figures of the shrinker with this number, as `ebb_get_stats` does with the totals. The number is that
 * of `ebb_shrinker_find` or `ebb_shrinker_next`.
 *
 * Gives 0; or ENOENT when there is no such shrinker; or EINVAL when the size is too small for the size field itself. Allocates
 * nothing.
 *
 * # Safety
 *
 * As many bytes as `stats->size` says may be written.
 *
 */
EBB_ATTR(nonnull(2))
int ebb_get_shrinker_stats(uint64_t id,
                           struct ebb_shrinker_stats_t *stats)
EBB_NOTHROW;

/**
 * The number of the shrinker that was registered first after the one with the number `id`, or first of all where that is 0; 0
 * when there is none. For going over all of them, which may come and go meanwhile.
 */
uint64_t ebb_shrinker_next(uint64_t id)
EBB_NOTHROW;

/**
 * Registers a last chance: `free` is called before an allocation fails, when all shrinkers have given what they had. If it
 * says that it freed anything the allocation is tried once more. It runs like the callbacks of a shrinker.
 *
 * Gives 0, or EINVAL when the name or the function is missing or the name is not UTF-8, or ENOMEM. `*out` goes to
 * `ebb_shrinker_unregister` or `ebb_shrinker_retire`; on failure it is as it was.
 *
 * # Safety
 *
 * `name` is NULL or a C string; `out` may be written. `free` may be called with the context by any thread until it is
 * unregistered.
 *
 */
EBB_ATTR(nonnull(4))
int ebb_last_chance_register(const char *name,
                             ebb_last_chance_fn free,
                             void *context,
                             struct ebb_shrinker_t **out)
EBB_NOTHROW;

/**
 * How short of memory the process is: `EBB_PRESSURE_...`. Costs one read of memory.
 *
 * Measured is what is backed against the budget less the reserve; without a budget there is no pressure, and budgets of
 * nodes do not raise it. A level that was reached ends only when what is backed has fallen three or four 64ths of that below
 * where it begins.
 */
int ebb_pressure(void)
EBB_NOTHROW;

/**
 * Has `call` called with the new level whenever the pressure changes, up or down, from now on.
 *
 * It is called by a thread of the allocator's own, a little after the change: it may block, allocate and free. It must not
 * throw or jump out. Gives 0, or EINVAL when the name or the function is missing or the name is not UTF-8, or ENOMEM.
 * `*out` goes to `ebb_shrinker_unregister` or `ebb_shrinker_retire`; on failure it is as it was.
 *
 * # Safety
 *
 * `name` is NULL or a C string; `out` may be written. `call` may be called with the context by another thread until it is
 * unregistered.
 *
 */
EBB_ATTR(nonnull(4))
int ebb_pressure_register(const char *name,
                          ebb_listener_fn call,
                          void *context,
                          struct ebb_shrinker_t **out)
EBB_NOTHROW;

/**
 * From here on this thread's allocations never reclaim: those that do not fit are served from the reserve, or fail. For code
 * that holds what a shrinker wants, and for code that has to allocate to deal with an allocation that failed.
 *
 * This and the two below nest, with themselves and each other, and the strictest holds. Each begin that gave 0 has its end on
 * the same thread. EAGAIN says that the scope was begun too often to be counted, 4,095 times (255 for one class of
 * shrinkers): the allocations behave as asked for, but this begin has no end of its own. Gives 0 or EAGAIN.
 */
int ebb_no_reclaim_begin(void)
EBB_NOTHROW;

/**
 * Ends `ebb_no_reclaim_begin`. Gives 0, or EINVAL when none was begun.
 */
int ebb_no_reclaim_end(void) EBB_NOTHROW;

/**
 * From here on this thread's allocations do not call shrinkers of this class. Gives 0, EAGAIN, or EINVAL when there is no
 * such class.
 */
int ebb_no_shrinker_begin(unsigned int shrinker_class)
EBB_NOTHROW;

/**
 * Ends `ebb_no_shrinker_begin`. Gives 0, or EINVAL when none was begun.
 */
int ebb_no_shrinker_end(unsigned int shrinker_class) EBB_NOTHROW;

/**
 * From here on this thread's allocations try only so hard: `EBB_MODE_...`. Gives 0, EAGAIN, or EINVAL when there is no such
 * mode.
 */
int ebb_mode_begin(int number)
EBB_NOTHROW;

/**
 * Ends `ebb_mode_begin`. Gives 0, or EINVAL when none was begun.
 */
int ebb_mode_end(int number) EBB_NOTHROW;

/**
 * Makes an object cache, the kernel's `kmem_cache`: objects of one size in slabs that nothing else lies in, so that memory
 * comes back when they are freed together. `*out` is the cache.
 *
 * An object keeps its state from one use to the next, as in the kernel: `construct` and `destroy` are called when slabs come
 * and go, not when objects do. They may allocate and free. `destroy` may be called on any thread in the middle of an
 * allocation that fails otherwise: it waits for no lock. Neither throws nor jumps out.
 *
 * Gives 0; or EINVAL when the name is missing or not UTF-8, the alignment is no power of two, objects are too large, or
 * `debug` has other letters; or ENOMEM. On failure `*out` is as it was.
 *
 * # Safety
 *
 * `ops` may be read, its name and `debug` are NULL or C strings, and `out` may be written. The functions may be called with the context by
 * any thread until `ebb_cache_destroy` has given 0.
 *
 */
EBB_ATTR(nonnull(1, 2))
int ebb_cache_create(const struct ebb_cache_ops_t *ops,
                     struct ebb_cache_t **out)
EBB_NOTHROW;

/**
 * An object: constructed, or as it was when it was last freed. NULL, and `errno` is ENOMEM, when the memory is not there,
 * under the budget or at all, and the registered shrinkers cannot make it.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`.
 *
 */
EBB_ATTR(malloc, nonnull(1))
void *ebb_cache_alloc(struct ebb_cache_t *cache)
EBB_NOTHROW;

/**
 * As `ebb_cache_alloc`, on the NUMA node that the kernel calls `node`, and nowhere else. NULL also when there is no such
 * node.
 *
 * # Safety
 *
 * As `ebb_cache_alloc`.
 *
 */
EBB_ATTR(malloc, nonnull(1))
void *ebb_cache_alloc_on_node(struct ebb_cache_t *cache,
                              uint32_t node)
EBB_NOTHROW;

/**
 * Frees an object, in the state that `construct` gives if there is one. NULL is allowed and does nothing. `errno` is kept.
 *
 * What is recognised as no object of this cache, or free already, ends the program with one line that says so. `free` and
 * `ebb_free` do the same for an object of any cache.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`; `object` is NULL or an object of it, and is not used again.
 *
 */
EBB_ATTR(nonnull(1))
void ebb_cache_free(struct ebb_cache_t *cache,
                    void *object)
EBB_NOTHROW;

/**
 * Gives back what is free: objects that CPUs keep go to their slabs, slabs without objects in use to the free memory.
 * Says how many bytes of slabs that were. `ebb_purge` then gives all free memory to the operating system.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`.
 *
 */
EBB_ATTR(nonnull(1))
size_t ebb_cache_shrink(struct ebb_cache_t *cache)
EBB_NOTHROW;

/**
 * Looks at all objects of a cache that is watched (`debug`, `EBB_CACHE_DEBUG`), and says on standard error what is wrong with
 * them: how many are. 0 where none is watched. Changes nothing; others that allocate or free wait meanwhile.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`.
 *
 */
EBB_ATTR(nonnull(1))
size_t ebb_cache_validate(struct ebb_cache_t *cache)
EBB_NOTHROW;

/**
 * Ends a cache. Gives 0; or EBUSY, and the cache is as it was, when objects of it are in use. NULL gives 0.
 *
 * # Safety
 *
 * `cache` is NULL or came from `ebb_cache_create`, and nobody uses it meanwhile, nor at all once this has given 0.
 */
int ebb_cache_destroy(struct ebb_cache_t *cache)
EBB_NOTHROW;

/**
 * Writes how full the slab of an object is. Gives 0, or EINVAL when it is no object of this cache in use.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`; `occupancy` may be written.
 *
 */
EBB_ATTR(nonnull(1, 3))
int ebb_cache_occupancy(struct ebb_cache_t *cache,
                        const void *object,
                        struct ebb_occupancy_t *occupancy)
EBB_NOTHROW;

/**
 * Shows the objects of the sparsest slabs: those that cost the fewest objects to come free. For eviction: a slab gives memory
 * back only when all of its objects are free. `node` is as the kernel calls it, or -1 for all. Gives how many slabs
 * were shown, at least in part.
 *
 * Each slab is shown once, one with more than 128 objects in several calls one after the other; those come last that
 * were shown in an earlier round and are as they were. No lock is held meanwhile: `visit` may free and allocate. What it
 * gets are copies, and others may free these objects at any time. So it looks them up in an index of its own, under a
 * lock of its own; what is not there was freed, is about to be inserted, or is kept by a CPU. A missing `visit`
 * gives 0.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`; `visit` may be called with the context.
 *
 */
EBB_ATTR(nonnull(1))
size_t ebb_cache_sparsest(struct ebb_cache_t *cache,
                          int node,
                          ebb_visit_fn visit,
                          void *context)
EBB_NOTHROW;

/**
 * An object in a slab that has at least as many in use as that of `object`, for moving what is in it there; NULL, with
 * `errno` as it was, when no such slab has room. Makes no slab. So the sparsest slabs come free although what is in
 * them is still wanted.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`, and `object` is an object of it.
 *
 */
EBB_ATTR(malloc, nonnull(1, 2))
void *ebb_cache_alloc_denser(struct ebb_cache_t *cache,
                             void *object)
EBB_NOTHROW;

/**
 * Fills `*stats` with the figures of a cache, as `ebb_get_stats` does with the totals. `ebb_write_stats` has those of all
 * caches, in the lines of `/proc/slabinfo`.
 *
 * Gives 0, or EINVAL when the size is too small for the size field itself.
 *
 * # Safety
 *
 * `cache` came from `ebb_cache_create`; as many bytes as `stats->size` says may be written.
 *
 */
EBB_ATTR(nonnull(1, 2))
int ebb_get_cache_stats(struct ebb_cache_t *cache,
                        struct ebb_cache_stats_t *stats)
EBB_NOTHROW;

/**
 * Tells the check of locks of a kind of lock, and switches the check on. `*out` is the class, which lives for ever.
 *
 * A lock that a shrinker's callback waits for, and that is held around an allocation, is a deadlock in waiting: the
 * allocation calls the shrinker one day. Both halves are seen by themselves, whenever and wherever, and reported once on
 * standard error by the name of the class. Meant for debug builds of a program: around each lock it calls `ebb_lock_waiting`
 * before it waits (not where it only tries), `ebb_lock_acquired` once it has the lock, and `ebb_lock_released` when it gives
 * it back.
 *
 * Gives 0, or EINVAL when the name is missing or not UTF-8, or ENOMEM. On failure `*out` is as it was.
 *
 * # Safety
 *
 * `name` is NULL or a C string, which is copied; `out` may be written.
 *
 */
EBB_ATTR(nonnull(2))
int ebb_lock_class_create(const char *name,
                          struct ebb_lock_class_t **out)
EBB_NOTHROW;

/**
 * This thread is about to wait for a lock of that class, if need be.
 *
 * # Safety
 *
 * `class` came from `ebb_lock_class_create`.
 *
 */
EBB_ATTR(nonnull(1)) void ebb_lock_waiting(const struct ebb_lock_class_t *class_) EBB_NOTHROW;

/**
 * This thread holds a lock of that class from now on.
 *
 * # Safety
 *
 * `class` came from `ebb_lock_class_create`.
 *
 */
EBB_ATTR(nonnull(1)) void ebb_lock_acquired(const struct ebb_lock_class_t *class_) EBB_NOTHROW;

/**
 * This thread has given back a lock of that class.
 *
 * # Safety
 *
 * `class` came from `ebb_lock_class_create`.
 *
 */
EBB_ATTR(nonnull(1)) void ebb_lock_released(const struct ebb_lock_class_t *class_) EBB_NOTHROW;

/**
 * Whether it was seen that locks of that class may deadlock: 1 or 0. For tests.
 *
 * # Safety
 *
 * `class` came from `ebb_lock_class_create`.
 *
 */
EBB_ATTR(nonnull(1)) int ebb_lock_is_inverted(const struct ebb_lock_class_t *class_) EBB_NOTHROW;

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EBBMALLOC_H */
