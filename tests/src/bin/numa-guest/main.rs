//! The NUMA checks, to be run on a machine with several nodes: a guest of `ebb_tests::vm`, or a real one.
//!
//! `numa-guest CHECK...` runs those checks, each in two processes of its own: by restartable sequences and by the
//! fallback. `numa-guest` alone runs all. They look at the pages themselves (`move_pages`), not at what the allocator
//! says. A check that needs what the machine does not have is passed over, and says so.

mod caches;
mod common;
mod hotplug;
mod placement;
mod policies;
mod reclaim;
mod shortage;

use std::env;
use std::process;
use std::time::Instant;

use ebb_tests::numa::Nodes;

use common::{STEP, me};

type Check = fn(&Nodes);

const CHECKS: [(&str, Check); 23] = [
    ("placement", placement::placement),
    ("touched_elsewhere", placement::touched_elsewhere),
    ("migration", placement::migration),
    ("full_sheaves_and_barns", placement::full_sheaves_and_barns),
    ("frees_go_home", placement::frees_go_home),
    ("traffic", placement::traffic),
    ("counters", placement::counters),
    ("caches", caches::caches),
    ("fallback_by_distance", shortage::fallback_by_distance),
    ("equally_near", shortage::equally_near),
    ("strict", shortage::strict),
    ("exhaustion", shortage::exhaustion),
    ("strict_exhaustion", shortage::strict_exhaustion),
    ("interleave", policies::interleave),
    ("policies_of_the_process", policies::policies_of_the_process),
    ("policy_by_call", policies::policy_by_call),
    ("bound", policies::bound),
    ("cpuset", policies::cpuset),
    ("shrinkers", reclaim::shrinkers),
    ("walks", reclaim::walks),
    ("reclaim_threads", reclaim::reclaim_threads),
    ("cpu_hotplug", hotplug::cpus),
    ("memory_hotplug", hotplug::memory),
];

/// What checks run in a second process, with another environment.
const STEPS: [(&str, Check); 5] = [
    ("spread", policies::is_spread),
    ("first touch", policies::is_first_touch),
    ("confined", policies::is_confined),
    ("one CPU", reclaim::on_one_cpu),
    ("memory goes", hotplug::memory_goes),
];

/// The exit status of a check that is passed over.
const PASSED_OVER: i32 = 77;

/// Ends the check: this machine does not have what it needs.
fn pass_over(what: &str) -> ! {
    println!("passed over: {what}");
    process::exit(PASSED_OVER)
}

fn main() {
    let names: Vec<String> = env::args().skip(1).collect();
    if let Ok(step) = env::var(STEP) {
        let mut known = CHECKS.iter().chain(&STEPS);
        let (_, check) = known.find(|check| step == check.0).unwrap();
        return check(&Nodes::read());
    }
    let unknown = |name: &&String| CHECKS.iter().all(|check| name != &check.0);
    if let Some(name) = names.iter().find(unknown) {
        eprintln!("no check {name}");
        process::exit(2);
    }
    let mut failed = 0;
    for (name, _) in CHECKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        for mode in ["0", "1"] {
            let start = Instant::now();
            let status = me(name).env("EBB_NO_RSEQ", mode).status().unwrap();
            let word = match status.code() {
                Some(0) => "ok",
                Some(PASSED_OVER) => "passed over",
                _ => "FAILED",
            };
            println!(
                "{word} {name} EBB_NO_RSEQ={mode} ({} ms)",
                start.elapsed().as_millis()
            );
            failed += i32::from(word == "FAILED");
        }
    }
    process::exit(failed.min(1));
}
