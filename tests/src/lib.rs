//! ebb-tests
