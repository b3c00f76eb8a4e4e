// norm_forward: y = (x − mean) · inverse · gain + bias over a group of columns (src/network/mod.rs, `Norm`).
//
// Parallel over (row, group).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let first = item % GROUPS * SIZE;
    let row = item / GROUPS;
    let x = at_x() + row * X_STRIDE + first;
    let s = statistics(x);
    for (var c = 0u; c < SIZE; c++) {
        var y = (arena[x + c] - s.mean) * s.inverse;
        if GAIN {
            y *= params[at_gain() + first + c];
        }
        if BIAS {
            y += params[at_bias() + first + c];
        }
        arena[at_y() + row * (GROUPS * SIZE) + first + c] = y;
    }
}
