// conv_forward: y[t, c] = b[c] + Σ_k w[c, k] x[t − LOW + k, c]; 0 past a sequence's end.
//
// Parallel over (row, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let c = item % WIDTH;
    let row = item / WIDTH;
    let b = row % at_batch();
    let t = i32(row / at_batch());
    var y = 0.0;
    if !is_padding(row) {
        if BIAS {
            y = params[at_bias() + c];
        }
        for (var k = 0u; k < TAPS; k++) {
            y = fma(weight(c, k), seen(b, c, t - i32(LOW) + i32(k), t), y);
        }
    }
    arena[at_y() + item] = y;
}
