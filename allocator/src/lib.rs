//! ebbmalloc: an allocator that gives memory back before it gives up.
