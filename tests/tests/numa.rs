//! NUMA on a real kernel: programs in guests with several nodes.
//!
//! Where there is no QEMU or no kernel for a guest the tests say so and pass; in CI (`CI=true`) they fail.

use std::path::Path;

use ebb_tests::vm::{self, Machine};

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
