//! The workloads on Google's tcmalloc.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

fn main() -> ExitCode {
    ebb_benches::peer::main()
}
