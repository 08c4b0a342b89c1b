//! What the tests of the whole product share.

pub mod c;
mod child;
pub mod header;
/// The README. Its Rust blocks are tests; `tests/readme.rs` sees to the others.
#[doc = include_str!("../../README.md")]
pub mod readme {}

pub use child::{Random, alone, in_both_modes, resident};
