//! NUMA on a real kernel: programs in guests with several nodes.
//!
//! Where there is no QEMU or no kernel for a guest the tests say so and pass; in CI (`CI=true`) they fail.

use std::path::Path;

use ebb_tests::vm::{self, Machine};

/// Nodes without CPUs and without memory, at distances that no numbering gives away; all checks of `numa-guest`.
#[test]
fn four_nodes_of_which_two_are_odd() {
    if !vm::available() {
        return;
    }
    let machine = Machine::new(&[(1, 192), (1, 0), (1, 128), (0, 80)])
        .distance(0, 1, 30)
        .distance(0, 3, 13)
        .distance(1, 2, 16)
        .distance(2, 3, 12);
    let outcome = machine
        .run(&vm::own_program("numa-guest"), &[], &[])
        .unwrap();
    assert_eq!(outcome.status, 0, "{}", outcome.output);
    // Each check in both modes.
    let passed = outcome
        .output
        .lines()
        .filter(|line| line.starts_with("ok "));
    assert_eq!(passed.count(), 32, "{}", outcome.output);
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
