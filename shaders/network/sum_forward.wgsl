// sum_forward: the sum of each group of columns, first to last.
//
// Parallel over (row, group).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let x = at_x() + item / GROUPS * X_STRIDE + item % GROUPS * SIZE;
    var sum = 0.0;
    for (var c = 0u; c < SIZE; c++) {
        sum += arena[x + c];
    }
    arena[at_y() + item] = sum;
}
