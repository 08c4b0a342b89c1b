use std::ffi::CString;
use std::fs;
use std::sync::atomic::AtomicUsize;

use super::*;

/// Reads a machine that these files describe.
fn machine_by(files: &[(&str, &str)], rules: &NodeRules, policy: Option<NumaPolicy>) -> Topology {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: any number that is used once.
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("ebb-sysfs-{}-{number}", std::process::id()));
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let c_path = CString::new(root.to_str().unwrap()).unwrap();
    let machine = Topology::read(Some(&c_path), rules, policy);
    fs::remove_dir_all(root).unwrap();
    machine
}

fn machine(files: &[(&str, &str)]) -> Topology {
    machine_by(files, &NodeRules::NONE, None)
}

fn order(machine: &Topology, node: usize) -> Vec<usize> {
    machine.order_of(node).collect()
}

fn set(ids: &[usize]) -> NodeSet {
    let mut set = NodeSet::NONE;
    ids.iter().for_each(|id| set.add(*id));
    set
}

/// Eight nodes with eight CPUs each, in two groups of four.
const EIGHT: [(&str, &str); 19] = [
    ("cpu/possible", "0-63\n"),
    ("node/online", "0-7\n"),
    ("node/has_memory", "0-7\n"),
    ("node/node0/cpulist", "0-3,32-35\n"),
    ("node/node1/cpulist", "4-7,36-39\n"),
    ("node/node2/cpulist", "8-11,40-43\n"),
    ("node/node3/cpulist", "12-15,44-47\n"),
    ("node/node4/cpulist", "16-19,48-51\n"),
    ("node/node5/cpulist", "20-23,52-55\n"),
    ("node/node6/cpulist", "24-27,56-59\n"),
    ("node/node7/cpulist", "28-31,60-63\n"),
    ("node/node0/distance", "10 12 12 12 32 32 32 32\n"),
    ("node/node1/distance", "12 10 12 12 32 32 32 32\n"),
    ("node/node2/distance", "12 12 10 12 32 32 32 32\n"),
    ("node/node3/distance", "12 12 12 10 32 32 32 32\n"),
    ("node/node4/distance", "32 32 32 32 10 12 12 12\n"),
    ("node/node5/distance", "32 32 32 32 12 10 12 12\n"),
    ("node/node6/distance", "32 32 32 32 12 12 10 12\n"),
    ("node/node7/distance", "32 32 32 32 12 12 12 10\n"),
];

#[test]
fn eight_nodes_and_64_cpus() {
    let machine = machine(&EIGHT);
    assert_eq!((machine.cpus, machine.nodes), (64, 8));
    let cpus = [0, 35, 4, 16, 31, 63];
    assert_eq!(cpus.map(|cpu| machine.home_of(cpu)), [0, 0, 1, 4, 7, 7]);
    assert_eq!(machine.home_of(100_000), 0);
    assert_eq!(order(&machine, 0), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(order(&machine, 1), [1, 2, 3, 0, 5, 6, 7, 4]);
    assert_eq!(order(&machine, 6), [6, 4, 5, 7, 2, 3, 0, 1]);
    // Each of a group is the first choice of another, and the first choice in the other group of one.
    for place in [1, 4] {
        let mut chosen: Vec<_> = (0..8).map(|node| order(&machine, node)[place]).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2, 3, 4, 5, 6, 7], "place {place}");
    }
}

/// Each CPU of a node has a shard, by turns. Seen to fail when CPUs are dealt by their numbers alone.
#[test]
fn cpus_are_dealt_to_shards() {
    let eight = machine(&EIGHT);
    for node in 0..8 {
        let cpus = (0..64).filter(|cpu| eight.home_of(*cpu) == node);
        let shards: Vec<_> = cpus.map(|cpu| eight.shard_of(cpu)).collect();
        assert_eq!(shards, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(eight.shards(node), 8);
    }
    let odd = machine(&[
        ("cpu/possible", "0-12\n"),
        ("node/online", "0-2\n"),
        ("node/has_memory", "0-2\n"),
        ("node/node0/cpulist", "0-9\n"),
        ("node/node1/cpulist", "10-12\n"),
        ("node/node2/cpulist", "\n"),
    ]);
    assert_eq!(
        (0..3).map(|node| odd.shards(node)).collect::<Vec<_>>(),
        [8, 3, 1]
    );
    assert_eq!(
        [7, 8, 9, 10, 12].map(|cpu| odd.shard_of(cpu)),
        [7, 0, 1, 0, 2]
    );
}

/// Ids with gaps; a node without memory between others, whose column in the distances counts; odd distances.
#[test]
fn sparse_ids_and_odd_distances() {
    let files = [
        ("cpu/possible", "0-63\n"),
        ("node/online", "0,8,16-17,252\n"),
        ("node/has_memory", "0,8,17,252\n"),
        ("node/node0/cpulist", "0-7,32-39\n"),
        ("node/node8/cpulist", "8-15\n"),
        ("node/node16/cpulist", "40-47\n"),
        ("node/node17/cpulist", "\n"),
        ("node/node252/cpulist", "16,18,20\n"),
        ("node/node0/distance", "10 80 11 40 80\n"),
        ("node/node8/distance", "80 10 11 40 254\n"),
        ("node/node16/distance", "61 60 10 30 17\n"),
        ("node/node17/distance", "999 11 11 10 11\n"),
    ];
    let machine = machine(&files);
    assert_eq!(machine.nodes, 4);
    let ids: Vec<_> = (0..4).map(|node| machine.id(node)).collect();
    assert_eq!(ids, [0, 8, 17, 252]);
    let cpus = [39, 8, 18, 40];
    assert_eq!(cpus.map(|cpu| machine.home_of(cpu)), [0, 1, 3, 3]);
    assert_eq!(machine.home_of(17), 0, "nobody's CPU is the first node's");
    assert_eq!(order(&machine, 0), [0, 2, 1, 3]);
    assert_eq!(order(&machine, 1), [1, 2, 0, 3]);
    assert_eq!(order(&machine, 2), [2, 1, 3, 0]);
    // Without a file all others are equally far.
    assert_eq!(order(&machine, 3), [3, 0, 1, 2]);
    assert_eq!(machine.node_with(252), Some(3));
    assert_eq!(machine.node_with(16), None, "it has no memory");
    assert_eq!(machine.turns(1, true), (8, 253));
    assert_eq!(machine.turns(3, false), (252, 1));
}

#[test]
fn more_nodes_than_are_told_apart() {
    let files = [
        ("cpu/possible", "0-2000"),
        ("node/online", "0-99"),
        ("node/has_memory", "0-99"),
        ("node/node63/cpulist", "5"),
        ("node/node99/cpulist", "7"),
        ("node/node99/distance", "90 90 11"),
    ];
    let machine = machine(&files);
    assert_eq!((machine.cpus, machine.nodes), (MAX_CPUS, MAX_NODES));
    assert_eq!(machine.home_of(5), 63);
    assert_eq!(machine.home_of(7), 2, "the nearest that is told apart");
    assert_eq!(machine.node_with(99), None);
}

#[test]
fn only_allowed_nodes_are_there() {
    let rules = NodeRules {
        allowed: set(&[1, 6, 500]),
        bound: true,
        ..NodeRules::NONE
    };
    let machine = machine_by(&EIGHT, &rules, None);
    assert_eq!((machine.nodes, machine.id(0), machine.id(1)), (2, 1, 6));
    let cpus = [0, 4, 8, 16, 24, 28];
    assert_eq!(cpus.map(|cpu| machine.home_of(cpu)), [0, 0, 0, 1, 1, 1]);
}

#[test]
fn preferred_nodes_come_first_and_others_follow() {
    let rules = NodeRules {
        preferred: set(&[5]),
        ..NodeRules::NONE
    };
    let machine = machine_by(&EIGHT, &rules, None);
    assert_eq!(machine.nodes, 8);
    assert!((0..64).all(|cpu| machine.home_of(cpu) == 5));
    assert_eq!(order(&machine, 5), [5, 7, 4, 6, 1, 2, 3, 0]);
}

#[test]
fn nodes_are_not_told_apart_when_that_is_not_wanted() {
    let rules = NodeRules {
        interleaved: true,
        ..NodeRules::NONE
    };
    for (rules, policy) in [
        (rules, None),
        (NodeRules::NONE, Some(NumaPolicy::Off)),
        (NodeRules::NONE, Some(NumaPolicy::Interleave)),
    ] {
        let machine = machine_by(&EIGHT, &rules, policy);
        assert_eq!((machine.cpus, machine.nodes), (64, 1));
        assert_eq!(machine.node_with(0), None);
    }
    let machine = machine_by(&EIGHT, &rules, Some(NumaPolicy::Local));
    assert_eq!(machine.nodes, 8, "what we are told comes first");
}

#[test]
fn rubbish_is_one_node() {
    let files = [
        ("cpu/possible", "zero to three"),
        ("node/online", "-,5-,-9,18446744073709551615-"),
        ("node/has_memory", "99999999999999999999"),
        ("node/node5/cpulist", "99999999999999999999"),
        ("node/node5/distance", "ten - -3 \u{7f}"),
    ];
    let machine = machine(&files);
    assert_eq!((machine.cpus, machine.nodes), (1, 1));
    let nowhere = Topology::read(Some(c"/nonexistent"), &NodeRules::NONE, None);
    assert_eq!((nowhere.cpus, nowhere.nodes), (1, 1));
    assert_eq!(order(&nowhere, 0), [0]);
}

#[test]
fn this_machine_has_cpus() {
    let here = Topology::read(None, &os::node_rules(), None);
    assert!(here.cpus >= std::thread::available_parallelism().unwrap().get());
    assert!(here.nodes >= 1);
}
