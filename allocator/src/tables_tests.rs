//! Where the tables lie, in a page and on which node.

use core::sync::atomic::AtomicU8;

use super::*;
use crate::config::SLICE;
use crate::node;
use crate::span_map;
use crate::start;
use crate::window::TAGS_AT;

/// The kernel's number of the node that a page of ours lies on.
fn node_of(address: usize) -> usize {
    const NODE_OF_ADDRESS: usize = 3;
    let byte = ptr::with_exposed_provenance::<AtomicU8>(address);
    // SAFETY: a byte of a mapping of ours that stays.
    let byte = unsafe { &*byte };
    // A page that nobody has written to is not backed. Relaxed: the byte stays what it is.
    byte.fetch_or(0, Ordering::Relaxed);
    let mut node: libc::c_int = -1;
    // SAFETY: writes a number; no set is asked for.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            ptr::null::<u64>(),
            0,
            address,
            NODE_OF_ADDRESS,
        )
    };
    assert_eq!(failed, 0);
    node as usize
}

/// On machines with one node. Seen to fail with the tags at the beginning of a page.
#[test]
fn words_and_the_first_tags_lie_apart() {
    assert!(start::ensure());
    let machine = topology::machine();
    let tags = TAGS_AT..TAGS_AT + (16 << 20) / SLICE * size_of::<Tag>();
    for cpu in 0..machine.cpus {
        let place = |class| (of_cpu(cpu).words + class * size_of::<usize>()) % PAGE;
        let apart = (1..=LAST).all(|class| !tags.contains(&place(class)));
        assert!(apart || machine.nodes > 1, "CPU {cpu}");
    }
}

/// Tells something on machines with several nodes only. Seen to fail there without the placing of tables, of sheaves, and
/// of descriptors.
#[test]
fn what_a_cpu_works_with_lies_on_its_node() {
    assert!(start::ensure());
    let machine = topology::machine();
    for cpu in 0..machine.cpus {
        let home = machine.home_of(cpu);
        let row = of_cpu(cpu).words + home * ROW * size_of::<usize>();
        assert_eq!(node_of(row), machine.id(home), "the table of CPU {cpu}");
        assert_eq!(row % align_of::<Rows>(), 0, "see `Rows`");
        let words = fallback(cpu).lock().words;
        assert_eq!(node_of(words), machine.id(home), "CPU {cpu}, fallback");
    }
    for node in node::all() {
        let id = machine.id(node.number());
        let sheaf = node.empty(1).unwrap().into_top();
        assert_eq!(node_of(sheaf), id, "a sheaf");
        let span = node.span(1).unwrap().start;
        let slab = span_map::slab_of_slice(span).addr();
        assert_eq!(node_of(slab), id, "a descriptor");
        assert_eq!(node_of(span + SLICE - 1), id, "a slice");
    }
}
