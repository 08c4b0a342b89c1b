//! What the tests of the whole product share.

mod child;

pub use child::{Random, alone, in_both_modes, resident};
