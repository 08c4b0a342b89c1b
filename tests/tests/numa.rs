//! NUMA on a real kernel: programs in guests with several nodes.
//!
//! Where there is no QEMU or no kernel for a guest the tests say so and pass; in CI (`CI=true`) they fail.

use std::path::Path;

use ebb_tests::vm::{self, Machine};

/// How many checks passed, in each of both modes, and how many were passed over.
fn checks(machine: &Machine, names: &[&str]) -> (usize, usize) {
    let outcome = machine
        .run(&vm::own_program("numa-guest"), names, &[])
        .unwrap();
    assert_eq!(outcome.status, 0, "{}", outcome.output);
    let count = |word| {
        let lines = outcome.output.lines();
        lines
            .filter(|line| line.starts_with(word) && line.contains("EBB_NO_RSEQ="))
            .count()
    };
    (count("ok "), count("passed over "))
}

/// Nodes without CPUs and without memory, at distances that no numbering gives away; a node whose number is above the
/// count of nodes, and one that has its memory late. All checks of `numa-guest`.
#[test]
fn five_nodes_of_which_three_are_odd() {
    if !vm::available() {
        return;
    }
    let machine = Machine::new(&[(1, 256), (1, 0), (1, 0), (1, 160), (0, 160)])
        .distance(0, 1, 30)
        .distance(0, 4, 13)
        .distance(1, 3, 16)
        .distance(2, 4, 11)
        .distance(3, 4, 12)
        .late(1, 128)
        .small_pages();
    assert_eq!(checks(&machine, &[]), (44, 2));
}

/// Those for which it matters how many nodes there are, and that all are alike.
#[test]
fn four_equal_nodes() {
    if !vm::available() {
        return;
    }
    let machine = Machine::new(&[(1, 192), (1, 128), (1, 128), (1, 128)]).small_pages();
    let names = [
        "equally_near",
        "fallback_by_distance",
        "frees_go_home",
        "full_sheaves_and_barns",
        "interleave",
        "migration",
        "placement",
        "policy_by_call",
        "reclaim_threads",
        "shrinkers",
        "strict",
        "traffic",
        "walks",
    ];
    assert_eq!(checks(&machine, &names), (2 * names.len(), 0));
}

/// The runner itself: the guest has the nodes that were asked for, and the program's status comes through.
#[test]
fn guests_are_what_was_asked_for() {
    if !vm::available() {
        return;
    }
    let machine = Machine::new(&[(2, 192), (1, 0), (0, 64)]).distance(0, 2, 15);
    let node = "/sys/devices/system/node";
    let files =
        ["has_memory", "has_cpu", "node0/distance", "none"].map(|file| format!("{node}/{file}"));
    let files = files.each_ref().map(String::as_str);
    let cat = machine.run(Path::new("/bin/cat"), &files, &[]).unwrap();
    assert!(cat.output.starts_with("0,2\n0-1\n10 20 15\n"), "{cat:?}");
    assert_eq!(cat.status, 1, "of four files one is not there: {cat:?}");
}
