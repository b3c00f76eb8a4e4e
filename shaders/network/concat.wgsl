// concat: the columns of one part to their place among those of all, or with BACK their gradients onto the part's.
//
// Parallel over (row, column of the part).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let row = item / PART;
    let x = at_x() + row * X_STRIDE + item % PART;
    let y = at_y() + row * WIDTH + item % PART;
    if !BACK {
        arena[y] = arena[x];
    } else if !is_padding(row) {
        arena[x] += arena[y];
    }
}
