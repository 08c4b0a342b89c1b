//! ebb-benches
