//! The workloads on ebbmalloc.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: ebbmalloc::EbbMalloc = ebbmalloc::EbbMalloc;

fn main() -> ExitCode {
    ebb_benches::peer::main()
}
