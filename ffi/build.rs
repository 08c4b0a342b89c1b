//! What the linker is told about the shared library.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs that link the library ask the loader for it by this name, wherever it lay when they were linked.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libebbmalloc.so");
    // Never unmapped, even by dlclose: blocks, fork handlers and the report at exit outlive any handle.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Named before Rust's library names the shared unwinder, which is then not needed: a program in C loads one library
    // less.
    let gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|kind| kind == "gnu");
    if gnu && has_static_unwinder() {
        println!("cargo::rustc-link-lib=dylib=gcc_eh");
    }
}

/// Whether the compiler that links has the GNU unwinder as a static library.
fn has_static_unwinder() -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or("cc".into());
    let said = Command::new(linker)
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    // A compiler that has none gives the bare name back.
    let found = |path: &[u8]| Path::new(OsStr::from_bytes(path.trim_ascii())).is_absolute();
    said.is_ok_and(|said| found(&said.stdout))
}
