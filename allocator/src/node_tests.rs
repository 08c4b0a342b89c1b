use super::*;

/// Seen to fail with a quarter taken for a half, with the most that was in use not lowered, and with either kind left out.
#[test]
fn what_shrinks_by_a_quarter_is_drained() {
    const MIB: usize = 1 << 20;
    static NODE: Node = Node::new();
    let shard = &NODE.shards[0];
    let free = |mib: isize| {
        NODE.scatter_by(shard, mib * MIB as isize);
        NODE.scatter()
    };
    NODE.slab_made(100 * MIB);
    NODE.note_high();
    assert_eq!(free(24), Scatter::Little);
    assert_eq!(free(2), Scatter::Much);
    NODE.lower_high();
    assert_eq!(NODE.scatter(), Scatter::Little, "that was drained for");
    assert_eq!(free(24), Scatter::Much);
    NODE.lower_high();
    assert_eq!(free(1), Scatter::Some, "more is free than in use");
}
