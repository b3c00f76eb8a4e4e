// scan_divide_backward: the adjoint of scan_divide: d num = dy / D, d den = −Σ dy y / D, with den's sign and only where it is the
// divisor.
//
// Parallel over (row, head).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() || is_padding(item / HEADS) {
        return;
    }
    let den = arena[at_sums() + item * COLUMNS + VALUE];
    var divisor = den;
    var slope = 1.0;
    if AT_LEAST_ONE {
        let least = safe_exp(-arena[at_m() + item]);
        divisor = max(abs(den), least);
        slope = select(0.0, select(-1.0, 1.0, den > 0.0), abs(den) > least);
    }
    var along = 0.0;
    for (var j = 0u; j < VALUE; j++) {
        let dy = arena[at_dy() + item * VALUE + j];
        along = fma(dy, arena[at_y() + item * VALUE + j], along);
        arena[at_d_sums() + item * COLUMNS + j] = dy / divisor;
    }
    arena[at_d_sums() + item * COLUMNS + VALUE] = -slope * along / divisor;
}
