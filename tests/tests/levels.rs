//! The pressure level, and those who listen to it. Each test has a process, and so a budget, of its own.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ebb_tests::{Block, MIB, alone};
use ebbmalloc::{Pressure, Registration, on_pressure, pressure};

/// A budget of 64 MiB, and no reserve.
fn small_budget() {
    ebbmalloc::set_reserve(0);
    ebbmalloc::set_budget(Some(64 * MIB));
}

/// Blocks until so many bytes are backed.
fn fill(blocks: &mut Vec<Block>, backed: usize) {
    while ebbmalloc::backed() < backed {
        blocks.push(Block::new(4 * MIB).expect("below the budget"));
    }
}

/// Seen to fail with `note` left out of `charge`, of `uncharge`, and of `budget::set`.
#[test]
fn follows_what_is_backed() {
    alone("follows_what_is_backed", || {
        let mut blocks = Vec::new();
        fill(&mut blocks, 20 * MIB);
        assert_eq!(pressure(), Pressure::None, "there is no budget");
        small_budget();
        assert_eq!(pressure(), Pressure::None);
        fill(&mut blocks, 48 * MIB);
        assert_eq!(pressure(), Pressure::Low);
        fill(&mut blocks, 56 * MIB);
        assert_eq!(pressure(), Pressure::Medium);
        ebbmalloc::set_budget(Some(ebbmalloc::backed()));
        assert_eq!(pressure(), Pressure::Critical);
        ebbmalloc::set_budget(Some(64 * MIB));
        assert!(pressure() < Pressure::Critical);
        blocks.clear();
        assert_eq!(pressure(), Pressure::None);
        fill(&mut blocks, 56 * MIB);
        ebbmalloc::set_budget(None);
        assert_eq!(pressure(), Pressure::None);
    });
}

fn listen() -> (Registration, Receiver<Pressure>) {
    let (sender, heard) = channel();
    let sender = Mutex::new(sender);
    let tell = move |pressure| {
        let _ = sender.lock().unwrap().send(pressure);
    };
    (on_pressure("test", tell).expect("memory"), heard)
}

fn next(heard: &Receiver<Pressure>) -> Pressure {
    heard.recv_timeout(Duration::from_secs(100)).expect("told")
}

/// The listener takes a lock that the allocating thread holds, and allocates itself. Seen to fail with the teller not woken.
#[test]
fn listeners_hear_of_changes_both_ways() {
    alone("listeners_hear_of_changes_both_ways", || {
        small_budget();
        let held = Arc::new(Mutex::new(()));
        let (registration, heard) = listen();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let _blocking = {
            let (held, seen) = (held.clone(), seen.clone());
            let block = move |pressure| {
                let _held = held.lock().unwrap();
                seen.lock().unwrap().push((pressure, Block::new(MIB)));
            };
            on_pressure("blocking", block).expect("memory")
        };
        let mut blocks = Vec::new();
        {
            let _held = held.lock().unwrap();
            fill(&mut blocks, 48 * MIB);
        }
        assert_eq!(next(&heard), Pressure::Low);
        // Not a change: 4 MiB are far from enough to fall.
        for _ in 0..10 {
            blocks.pop();
            fill(&mut blocks, 48 * MIB);
        }
        // By now the teller is asleep.
        thread::sleep(Duration::from_millis(20));
        blocks.clear();
        assert_eq!(next(&heard), Pressure::None);
        drop(registration);
        fill(&mut blocks, 48 * MIB);
        assert!(heard.recv().is_err(), "not any more");
    });
}

/// After a fork the child has no teller, and starts one. Seen to fail without `listeners::forget_teller`.
#[test]
fn a_forked_child_has_a_teller_of_its_own() {
    alone("a_forked_child_has_a_teller_of_its_own", || {
        small_budget();
        let (_registration, heard) = listen();
        let mut blocks = Vec::new();
        fill(&mut blocks, 48 * MIB);
        assert_eq!(next(&heard), Pressure::Low);
        // By now the teller is out of the channel.
        thread::sleep(Duration::from_millis(20));
        // SAFETY: the child allocates, which is what the fork handlers are for, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: no pointers.
            unsafe { libc::alarm(60) };
            fill(&mut blocks, 57 * MIB);
            let told = next(&heard) == Pressure::Medium;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!told)) };
        }
        let mut status = 0;
        // SAFETY: our child, and a place for its status.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        blocks.clear();
        assert_eq!(next(&heard), Pressure::None, "and in the parent");
    });
}
