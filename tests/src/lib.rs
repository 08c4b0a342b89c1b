//! What the tests of the whole product share.

pub mod c;
mod cache;
mod child;
pub mod eight_nodes;
pub mod fork;
pub mod header;
pub mod initramfs;
pub mod numa;
mod share;
pub mod thread;
/// The README. Its Rust blocks are tests; `tests/readme.rs` sees to the others.
#[doc = include_str!("../../README.md")]
pub mod readme {}
pub mod vm;

pub use cache::{
    Block, Cache, MIB, Slow, beside_a_lock, blocks, leave, patient, served_beside_a_lock,
};
pub use child::{
    alone, alone_in, alone_saying, in_both_modes, in_both_modes_with, in_environments, resident,
};
pub use ebb_benches::Random;
pub use share::share;

/// Whether it is a failure that something is not installed: where the environment has `CI=true`. Elsewhere what needs it is
/// passed over.
#[must_use]
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
