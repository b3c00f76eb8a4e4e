// conv_weight: one block of rows' part of dw[c, k] = Σ_t dy[t, c] x[t − LOW + k, c], rows in ascending order; fold adds the blocks.
//
// Parallel over (block of rows, column, tap).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let k = item % TAPS;
    let c = item / TAPS % WIDTH;
    let block = item / (TAPS * WIDTH);
    var sum = 0.0;
    let end = min((block + 1u) * at_block(), at_rows());
    for (var row = block * at_block(); row < end; row++) {
        if !is_padding(row) {
            let t = i32(row / at_batch());
            let x = seen(row % at_batch(), c, t - i32(LOW) + i32(k), t);
            sum = fma(arena[at_dy() + row * WIDTH + c], x, sum);
        }
    }
    arena[at_to() + item] = sum;
}
