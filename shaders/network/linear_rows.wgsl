// linear_rows: y[row, o] = Σ_i x[row, i] W[o, i] + b[o], or with BACK its adjoint dx[row, i] += Σ_o dy[row, o] W[o, i].
//
// Parallel over tiles of 4 rows x 4 columns, in registers; the sum runs in ascending order. Rows and columns past the edge compute
// a copy of the last one, which is not stored.

fn row_at(row: u32) -> u32 {
    return at_x() + min(row, at_rows() - 1u) * X_STRIDE;
}

fn weight_at(column: u32) -> u32 {
    return at_w() + min(column, COLUMNS - 1u) * W_COLUMN;
}

fn store(row: u32, column: u32, sums: vec4<f32>) {
    if row >= at_rows() || (BACK && is_padding(row)) {
        return;
    }
    for (var c = 0u; c < min(4u, COLUMNS - column); c++) {
        let place = at_y() + row * Y_STRIDE + column + c;
        if BACK {
            arena[place] += sums[c];
        } else {
            arena[place] = sums[c];
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let tiles = (COLUMNS + 3u) / 4u;
    let column = item % tiles * 4u;
    let row = item / tiles * 4u;
    let x = vec4(row_at(row), row_at(row + 1u), row_at(row + 2u), row_at(row + 3u));
    let w = vec4(weight_at(column), weight_at(column + 1u), weight_at(column + 2u), weight_at(column + 3u));
    var first = vec4(0.0);
    if BIAS {
        let last = COLUMNS - 1u;
        let at = at_bias() + min(vec4(column, column + 1u, column + 2u, column + 3u), vec4(last));
        first = vec4(params[at.x], params[at.y], params[at.z], params[at.w]);
    }
    var sums0 = first;
    var sums1 = first;
    var sums2 = first;
    var sums3 = first;
    for (var k = 0u; k < DEPTH; k++) {
        let at = w + k * W_DEPTH;
        let weights = vec4(params[at.x], params[at.y], params[at.z], params[at.w]);
        sums0 = fma(weights, vec4(arena[x.x + k]), sums0);
        sums1 = fma(weights, vec4(arena[x.y + k]), sums1);
        sums2 = fma(weights, vec4(arena[x.z + k]), sums2);
        sums3 = fma(weights, vec4(arena[x.w + k]), sums3);
    }
    store(row, column, sums0);
    store(row + 1u, column, sums1);
    store(row + 2u, column, sums2);
    store(row + 3u, column, sums3);
}
