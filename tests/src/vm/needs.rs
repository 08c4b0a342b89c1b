//! What a guest needs of this machine: QEMU, a kernel, and programs to run in it.
//!
//! The kernel is the file named by `EBB_VM_KERNEL`, or what `tests/fetch-kernel` has put into `target/vm`, or the
//! host's own, if it may be read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::header::workspace;
use crate::is_ci;

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// What a guest needs and this machine does not have.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let qemu = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if qemu.is_err() {
        return Some("qemu-system-x86_64 is not installed");
    }
    if kernel().is_none() {
        return Some("there is no kernel for the guest; tests/fetch-kernel gets one");
    }
    None
}

/// Whether guests can be run. If not, says what is missing.
///
/// # Panics
/// When they cannot and this is CI.
#[must_use]
pub fn available() -> bool {
    let Some(what) = missing() else { return true };
    assert!(!is_ci(), "{what}");
    eprintln!("skipped: {what}");
    false
}

/// The kernel to boot.
pub(super) fn kernel() -> Option<PathBuf> {
    if let Some(named) = env::var_os("EBB_VM_KERNEL") {
        return Some(named.into());
    }
    let fetched = workspace().join("target/vm/boot");
    [fetched.as_path(), Path::new("/boot")]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz") && fs::File::open(path).is_ok()
        })
        .max()
}

/// A program of this crate; cargo builds them before any test.
///
/// # Panics
/// When this program's own path is not known.
#[must_use]
pub fn own_program(name: &str) -> PathBuf {
    let here = env::current_exe().expect("this program's own path");
    // target/debug/numa-vm, or target/debug/deps/test
    here.ancestors()
        .skip(1)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} was not built"))
}
