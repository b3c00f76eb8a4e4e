// products_give: the gradients of what v is made of, from dv of every step of a block, from its last to its first.
//
// Parallel over (block, column of values).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let j = item % VALUE;
    let block = item / VALUE;
    let p = block_of(block);
    for (var i = 0u; i < p.end - p.first; i++) {
        let t = step_of(p, i);
        let row = row_of(p.b, t, at_reverse() != 0u);
        add_gradients(row, t * at_batch() + p.b, p.h, j, arena[at_y() + values_at(block, i) + j]);
    }
    store_sums(p.chunk * at_batch() + p.b, p.h, j);
}
