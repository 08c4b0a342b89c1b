//! The workloads on the C library's allocator, or on whatever is preloaded in its place.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() -> ExitCode {
    ebb_benches::peer::main()
}
