//! Budgets of nodes and requests for the memory of one, on a made-up machine (`eight_nodes`).

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebb_tests::eight_nodes::{IDS, described, figures, on_it};
use ebb_tests::numa::Block;
use ebb_tests::{MIB, alone_in, patient};
use ebbmalloc::{Count, Lane, Mode, Scan, Shrink, ShrinkControl, mode};

/// What the environment says of node budgets, and what that is for each node.
const BUDGETS: [(&str, [Option<usize>; 8]); 8] = {
    const NONE: [Option<usize>; 8] = [None; 8];
    let mut two = NONE;
    (two[0], two[7]) = (Some(64 * MIB), Some(1_024_000 * 1024 / 2));
    [
        ("17:64M,250:50%", two),
        ("", NONE),
        ("17:lots", NONE),
        ("17", NONE),
        ("17:64M,3:64M", NONE),
        ("17:64M,,40:64M", NONE),
        ("17:64M;40:64M", NONE),
        ("17:0", NONE),
    ]
};

/// One bad one among good ones makes all of them count for nothing. Seen to fail with the good ones set all the same.
#[test]
fn budgets_from_the_environment() {
    for (text, budgets) in BUDGETS {
        let environment = [("EBB_SYSFS", &*described()), ("EBB_NODE_BUDGET", text)];
        let said = alone_in("budgets_from_the_environment", &environment, || {
            let own = env::var("EBB_NODE_BUDGET").unwrap();
            let (_, budgets) = BUDGETS.iter().find(|known| known.0 == own).unwrap();
            assert_eq!(IDS.map(ebbmalloc::node_budget), *budgets, "{own}");
        });
        // In a child the rest is the parent's business.
        let Some(said) = said else { return };
        let lines = said
            .lines()
            .filter(|line| line.starts_with("ebbmalloc: EBB_NODE_BUDGET: "));
        let lines: Vec<_> = lines.collect();
        let good = text.is_empty() || budgets[0].is_some();
        assert_eq!(lines.len(), usize::from(!good), "{text:?}: {said}");
        assert!(
            lines
                .iter()
                .all(|line| line.contains("accepted: NODE:BYTES"))
        );
    }
}

/// A cache of blocks of one node, which lets another thread try to take what it has just freed.
struct Robbed {
    blocks: Mutex<Vec<Block>>,
    thefts: AtomicUsize,
}

impl Shrink for &'static Robbed {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.blocks.lock().unwrap().len())
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        let freed: Vec<_> = self.blocks.lock().unwrap().drain(..).collect();
        let bytes = freed.len() * MIB;
        drop(freed);
        let thief = || {
            let _scope = mode(Mode::NoWait);
            Block::on_node(MIB, 40).is_some()
        };
        let thefts = thread::scope(|scope| scope.spawn(thief).join().unwrap());
        self.thefts
            .fetch_add(usize::from(thefts), Ordering::Relaxed);
        let objects = bytes / MIB;
        Scan::Freed { objects, bytes }
    }
}

/// A request for all of its node, which a cache in this lane has. A thread that is not heard of for a tenth of a second is
/// not waited for.
fn nobody_else_gets_it(lane: Lane) {
    let backed = figures(40).backed as usize;
    ebbmalloc::set_node_budget(40, Some(backed + 4 * MIB));
    let blocks: Vec<_> = std::iter::from_fn(|| Block::on_node(MIB, 40)).collect();
    assert_eq!(blocks.len(), 4);
    let cache: &'static Robbed = Box::leak(Box::new(Robbed {
        blocks: Mutex::new(blocks),
        thefts: AtomicUsize::new(0),
    }));
    let registration = ebbmalloc::register(patient("robbed").lane(lane), cache).unwrap();
    let start = Instant::now();
    let block = Block::on_node(4 * MIB, 40);
    let late = lane == Lane::Async && start.elapsed() >= Duration::from_millis(100);
    assert!(block.is_some() || late, "{:?}", start.elapsed());
    assert!(block.is_none() || cache.thefts.load(Ordering::Relaxed) == 0);
    // The thief may come when the request has it already.
    drop(registration);
    drop(block);
    ebbmalloc::purge();
    assert_eq!(figures(40).backed as usize, backed, "the account is even");
    assert!(Block::on_node(MIB, 40).is_some(), "for whoever comes now");
}

/// What a request has freed on its node nobody else gets. Seen to fail with the bytes given back to the node at once.
#[test]
fn what_a_request_frees_on_its_node_is_its_own() {
    on_it("what_a_request_frees_on_its_node_is_its_own", || {
        nobody_else_gets_it(Lane::Sync);
    });
}

/// Nor what the reclaim thread frees there for it, wherever that runs. Seen to fail with the bytes given back to the node.
#[test]
fn what_is_freed_for_a_request_on_its_node_is_its_own() {
    on_it("what_is_freed_for_a_request_on_its_node_is_its_own", || {
        nobody_else_gets_it(Lane::Async);
    });
}

/// The size of small blocks.
const SMALL: usize = 1024;

/// All small blocks of a node that there are.
fn small_blocks() -> Vec<Block> {
    std::iter::from_fn(|| Block::on_node(SMALL, 40)).collect()
}

/// A cache whose objects are a MiB of small blocks of a node each. It gives two at a visit; of all but the last two a thief
/// takes the blocks.
struct Slow {
    objects: Mutex<Vec<Vec<Block>>>,
    stolen: Mutex<Vec<Block>>,
}

impl Shrink for &'static Slow {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.objects.lock().unwrap().len().min(2))
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        let mut all = self.objects.lock().unwrap();
        let keep = all.len().saturating_sub(2);
        let objects = all.drain(keep..).count();
        let thief = || {
            let _scope = mode(Mode::NoWait);
            small_blocks()
        };
        if !all.is_empty() {
            let loot = thread::scope(|scope| scope.spawn(thief).join().unwrap());
            self.stolen.lock().unwrap().extend(loot);
        }
        let bytes = objects * MIB;
        Scan::Freed { objects, bytes }
    }
}

/// Objects that the reclaim thread frees are anybody's as long as their slab is not free; but then more are freed, as long as
/// there is something. Seen to fail with the thread's visits not looked at by the request.
#[test]
fn what_another_took_is_freed_again() {
    on_it("what_another_took_is_freed_again", || {
        let backed = figures(40).backed as usize;
        ebbmalloc::set_node_budget(40, Some(backed + 20 * MIB));
        let mut blocks = small_blocks();
        let last = 2 * MIB / SMALL;
        assert!(blocks.len() > 9 * last, "{}", blocks.len());
        // Neighbours are given at different visits, so that no slab comes free; but for the last visit.
        blocks[last..].sort_by_cached_key(|block| block.address() / SMALL % 7);
        let mut objects = Vec::new();
        while !blocks.is_empty() {
            let rest = blocks.split_off(blocks.len().min(MIB / SMALL));
            objects.push(std::mem::replace(&mut blocks, rest));
        }
        let cache: &'static Slow = Box::leak(Box::new(Slow {
            objects: Mutex::new(objects),
            stolen: Mutex::default(),
        }));
        let spec = patient("slow").lane(Lane::Async);
        let _registration = ebbmalloc::register(spec, cache).unwrap();
        let start = Instant::now();
        let served = Block::on_node(2 * MIB, 40).is_some();
        // A thread that is not heard of for a tenth of a second is not waited for.
        let patience = Duration::from_millis(100);
        assert!(served || start.elapsed() >= patience, "refused at once");
    });
}
