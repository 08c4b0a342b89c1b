//! What the measurements of ebbmalloc beside other allocators share. `README.md` says what there is and how to run it.

mod arguments;
pub mod cargo;
pub mod machine;
pub mod packaged;
pub mod paths;
pub mod peer;
mod random;
mod subject;
pub mod workloads;

pub use arguments::bench_arguments;
pub use random::Random;
pub use subject::{Block, Ebbmalloc, Global, Subject, System};
