// linear_weight: one block of rows' part of dW[o, i] = Σ_row dy[row, o] x[row, i], rows in ascending order; fold adds the blocks.
//
// Parallel over blocks of rows and tiles of 4 x 4 weights, in registers.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let wide = (IN + 3u) / 4u;
    let high = (OUT + 3u) / 4u;
    let i = item % wide * 4u;
    let o = item / wide % high * 4u;
    let block = item / (wide * high);
    let columns = min(vec4(i, i + 1u, i + 2u, i + 3u), vec4(IN - 1u));
    let outs = min(vec4(o, o + 1u, o + 2u, o + 3u), vec4(OUT - 1u));
    var sums: array<vec4<f32>, 4>;
    let end = min((block + 1u) * at_block(), at_rows());
    for (var row = block * at_block(); row < end; row++) {
        if is_padding(row) {
            continue;
        }
        let xs = at_x() + row * X_STRIDE + columns;
        let ys = at_dy() + row * OUT + outs;
        let x = vec4(arena[xs.x], arena[xs.y], arena[xs.z], arena[xs.w]);
        sums[0] = fma(x, vec4(arena[ys.x]), sums[0]);
        sums[1] = fma(x, vec4(arena[ys.y]), sums[1]);
        sums[2] = fma(x, vec4(arena[ys.z]), sums[2]);
        sums[3] = fma(x, vec4(arena[ys.w]), sums[3]);
    }
    for (var r = 0u; r < min(4u, OUT - o); r++) {
        for (var c = 0u; c < min(4u, IN - i); c++) {
            arena[at_to() + (block * OUT + o + r) * IN + i + c] = sums[r][c];
        }
    }
}
