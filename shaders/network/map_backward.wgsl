// map_backward: dy times the expression's partial derivatives, to the operands' gradients or to what fold adds up; the generated
// `add_gradients` evaluates and stores.
//
// Parallel over (row, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let row = item / WIDTH;
    if is_padding(row) {
        return;
    }
    add_gradients(row, row, item % WIDTH, arena[at_dy() + item]);
}
