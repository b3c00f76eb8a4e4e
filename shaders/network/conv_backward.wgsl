// conv_backward: dx[p, c] += Σ_t w[c, p − t + LOW] dy[t, c] over the steps that see p, and what the last state took of x[p].
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
    if is_padding(row) {
        return;
    }
    let b = row % at_batch();
    let p = i32(row / at_batch());
    let end = i32(length_of(b));
    var d = 0.0;
    for (var k = 0u; k < TAPS; k++) {
        let t = p + i32(LOW) - i32(k);
        if t >= 0 && t < end && visible(b, p, t) {
            d = fma(weight(c, k), arena[at_dy() + (u32(t) * at_batch() + b) * WIDTH + c], d);
        }
    }
    if STATEFUL && end - p <= i32(LOW) && visible(b, p, end - 1) {
        d += arena[at_d_last() + (b * LOW + u32(i32(LOW) - end + p)) * WIDTH + c];
    }
    arena[at_dx() + row * X_STRIDE + c] += d;
}
