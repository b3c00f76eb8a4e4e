// sum_backward: a group's gradient, for every column of it.
//
// Parallel over (row, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let row = item / (GROUPS * SIZE);
    if is_padding(row) {
        return;
    }
    let column = item % (GROUPS * SIZE);
    arena[at_dx() + row * X_STRIDE + column] += arena[at_dy() + row * GROUPS + column / SIZE];
}
