//! What the tests of the whole product share.

pub mod c;
mod child;
pub mod header;

pub use child::{Random, alone, in_both_modes, resident};
