//! Before `main`: the allocator reads its environment.
//!
//! A loader calls what stands in `.init_array`. Allocations that come earlier (other constructors, the loader itself)
//! work; they only do not know the budget yet.

/// The loader's list of constructors has this entry.
// INVARIANT: the section holds addresses of functions in the C calling convention and nothing else.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// The constructor.
extern "C" fn start() {
    ebb::init_from_environment();
}
