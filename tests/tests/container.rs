//! The limit of a real control group: a budget in percent is a part of it.
//!
//! Making one takes root, and a tree that may be changed; elsewhere it is passed over.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use ebb_tests::MIB;

/// What the child is to see, in bytes.
const EXPECTED: &str = "EBB_TEST_BUDGET";

/// A control group of this test's own, with a limit, that the process is in.
struct Group {
    group: PathBuf,
    /// The one that the process was in.
    before: PathBuf,
}

impl Group {
    fn enter(bytes: usize) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (before, file) = match own.lines().find_map(|line| line.split_once(":memory:")) {
            Some((_, group)) => (
                format!("/sys/fs/cgroup/memory{group}"),
                "memory.limit_in_bytes",
            ),
            None => ("/sys/fs/cgroup".to_owned(), "memory.max"),
        };
        let before = PathBuf::from(before);
        // In version 2 the groups below have a limit if that is asked for; in version 1 there is no such file.
        let _ = fs::write(before.join("cgroup.subtree_control"), "+memory");
        let group = before.join(format!("ebbmalloc-{}", process::id()));
        fs::create_dir(&group).ok()?;
        let this = Self { group, before };
        fs::write(this.group.join(file), bytes.to_string()).ok()?;
        enter(&this.group).ok()?;
        Some(this)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = enter(&self.before);
        let _ = fs::remove_dir(&self.group);
    }
}

/// Moves this process into a group.
fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

/// Seen to fail with percentages of the machine's memory.
#[test]
fn a_percentage_is_of_the_container_s_limit() {
    if let Ok(expected) = env::var(EXPECTED) {
        let limit: usize = expected.parse().unwrap();
        assert_eq!(ebbmalloc::memory_limit(), limit);
        assert_eq!(ebbmalloc::budget(), Some(limit / 100 * 50));
        return;
    }
    let limit = 256 * MIB;
    let Some(_group) = Group::enter(limit) else {
        eprintln!("passed over: no control group can be made here");
        return;
    };
    let name = "a_percentage_is_of_the_container_s_limit";
    let status = Command::new(env::current_exe().unwrap())
        .args([name, "--exact"])
        .env(EXPECTED, limit.to_string())
        .env("EBB_BUDGET", "50%")
        .status()
        .unwrap();
    assert!(status.success());
}
