// products_edges: what every step of a block reads of the state before the block: its factors times the decays so far; and what is
// left of that state at the end, along the diagonal.
//
// Parallel over (block, key index).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let n = item % KEY;
    let block = item / KEY;
    var left = 1.0;
    for (var i = 0u; i < at_chunk(); i++) {
        let at = factor_at(block, i) + n;
        let after = arena[at_decays() + at] * left;
        if ERASE {
            arena[at_crossing() + at] = passed(left, arena[at_crossing() + at], 0.0);
        }
        arena[at_reads() + at] = passed(select(left, after, AFTER), arena[at_reads() + at], 0.0);
        left = after;
    }
    if ERASE {
        arena[at_left() + item] = left;
    } else {
        let p = block_of(block);
        arena[at_summary() + summary_at(p.chunk, p.b, p.h, COLUMNS) + n] = left;
    }
}
