// loss_forward: a row's loss; 0 past a sequence's end.
//
// Parallel over rows; columns in ascending order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = item_of(group, lane);
    if row >= at_items() {
        return;
    }
    var y = 0.0;
    if !is_padding(row) {
        if CLASSES {
            let e = exponents(row);
            y = weight_of(row) * (log(e.y) + e.x - x_of(row, class_of(row)));
        } else {
            for (var c = 0u; c < WIDTH; c++) {
                let d = x_of(row, c) - target_of(row, c);
                y += d * d;
            }
            y = weight_of(row) * y / f32(WIDTH);
        }
    }
    arena[at_y() + row] = y;
}
