//! Boxes that may fail: a registration that finds no memory says so instead of ending the process.

use std::alloc::{Layout, alloc};
use std::error::Error;
use std::fmt;

/// Why a shrinker could not be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is no memory for it.
    OutOfMemory,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for a shrinker")
    }
}

impl Error for RegisterError {}

/// A box, or an error where `Box::new` would end the process.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, RegisterError> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value));
    }
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc(layout) }.cast::<T>();
    if memory.is_null() {
        return Err(RegisterError::OutOfMemory);
    }
    // SAFETY: fresh memory of the right layout.
    unsafe { memory.write(value) };
    // SAFETY: allocated as a box of this type would be, and initialised.
    Ok(unsafe { Box::from_raw(memory) })
}
