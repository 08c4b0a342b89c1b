//! Giving back what is kept for reuse, all of it: what reclaim begins with, and what makes of freed objects memory that others
//! may have.

use crate::drain;
use crate::mapping;
use crate::node;
use crate::tally::{COUNTERS, count};

/// Drains all sheaves and barns, unmaps all spare mappings and purges all free spans, or those of one node. What is given
/// back goes to the system, or to this thread's request.
pub(crate) fn give_back(only: Option<usize>) {
    count(&COUNTERS.drains);
    count(&COUNTERS.purges);
    drain::drain(only);
    mapping::purge(only);
    for node in node::all() {
        if only.is_none_or(|only| only == node.number()) {
            node.arena.purge(0);
        }
    }
}
