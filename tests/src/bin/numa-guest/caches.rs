//! Where the objects of caches lie.

use ebb_tests::numa::{Nodes, pages, pin};
use ebbmalloc::{SlabBox, SlabCache};

type Page = [u8; 3000];

/// The nodes that an object's pages lie on.
fn on(page: &SlabBox<Page>) -> Vec<Option<u32>> {
    pages(SlabBox::as_ptr(page).as_ptr().cast(), 3000)
}

/// Where the CPU is, or where they were asked for.
pub(crate) fn caches(nodes: &Nodes) {
    let cache = SlabCache::<Page>::new("pages").unwrap();
    for cpu in nodes.cpus() {
        pin(cpu);
        let home = nodes.home(cpu);
        let objects: Vec<_> = (0..200).map(|_| cache.alloc([1; 3000]).unwrap()).collect();
        let here = |page| on(page).iter().all(|node| *node == Some(home));
        assert!(objects.iter().all(here), "CPU {cpu}");
        for node in &nodes.with_memory {
            let page = cache.alloc_on_node([1; 3000], *node).unwrap();
            assert!(on(&page).iter().all(|other| *other == Some(*node)));
            let known = |slab: ebbmalloc::SparseSlab<Page>| {
                slab.objects()
                    .any(|object| object == SlabBox::as_ptr(&page))
            };
            assert!(cache.sparsest_on(*node).any(known), "node {node}");
        }
    }
    let none = (0..100).filter(|node| !nodes.with_memory.contains(node));
    for node in none {
        assert!(cache.alloc_on_node([1; 3000], node).is_err(), "node {node}");
    }
}
