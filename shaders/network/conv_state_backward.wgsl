// conv_state_backward: the gradient of the state before the first step: of the steps that see it, and of the last state where a
// sequence is so short that it holds some of it still.
//
// Parallel over (sequence, place, column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let c = item % WIDTH;
    let i = item / WIDTH % LOW;
    let b = item / (WIDTH * LOW);
    let p = i32(i) - i32(LOW);
    let end = length_of(b);
    var d = 0.0;
    for (var t = 0u; t < min(i + 1u, end); t++) {
        if i - t < TAPS && visible(b, p, i32(t)) {
            d = fma(weight(c, i - t), arena[at_dy() + (t * at_batch() + b) * WIDTH + c], d);
        }
    }
    if end <= i && visible(b, p, i32(end) - 1) {
        d += arena[at_d_last() + (b * LOW + i - end) * WIDTH + c];
    }
    arena[at_d_initial() + item] = d;
}
