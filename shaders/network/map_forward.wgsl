// map_forward: a pointwise expression of operands; the generated `value_of` loads and evaluates.
//
// Parallel over (row, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    arena[at_y() + item] = value_of(item / WIDTH, item % WIDTH);
}
