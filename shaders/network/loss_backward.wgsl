// loss_backward: dy times what a row's loss changes by with x.
//
// Parallel over rows; columns in ascending order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = item_of(group, lane);
    if row >= at_items() {
        return;
    }
    if is_padding(row) {
        return;
    }
    let d = arena[at_dy() + row] * weight_of(row);
    let to = at_dx() + row * X_STRIDE;
    if CLASSES {
        let e = exponents(row);
        for (var c = 0u; c < WIDTH; c++) {
            let share = expr_exp(x_of(row, c) - e.x) / e.y;
            arena[to + c] += d * (share - select(0.0, 1.0, c == class_of(row)));
        }
    } else {
        for (var c = 0u; c < WIDTH; c++) {
            arena[to + c] += d * 2.0 * (x_of(row, c) - target_of(row, c)) / f32(WIDTH);
        }
    }
}
