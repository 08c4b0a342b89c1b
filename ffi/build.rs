//! Two linker flags of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs that link the library ask the loader for it by this name, wherever it lay when they were linked.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libebbmalloc.so");
    // Never unmapped, even by dlclose: blocks, fork handlers and the report at exit outlive any handle.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
