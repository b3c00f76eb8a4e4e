// project: pre = x W^T + b over all real (step, sequence) rows of a block of steps, both directions of a layer at once.
//
// Parallel over: x and y = columns (gates * units) and rows by lib/spread.wgsl, z = direction. Every invocation owns
// PROJECT_COLUMNS columns and PROJECT_ROWS rows in registers; W loads are coalesced and x loads nearly uniform.
// W is packed [I/4][column] (four k of one column, lib/weights_*.wgsl), then an exact row with the bias and, where rows have
// one (SCALED), the scale. k runs in ascending order.

@group(0) @binding(0) var<uniform> dims: Dims;
// binding 1, x: lib/input_vec4.wgsl or lib/input_scalar.wgsl
@group(0) @binding(2) var<storage, read> weights: array<Packed>;
@group(0) @binding(3) var<storage, read_write> pre: array<gate>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

// Whether lanes load rows of x together (lib/lanes.wgsl): where those of a subgroup have the same rows, and all of them columns.
const SHARES: bool = SUBGROUP > 1u && PROJECT_ROWS % SUBGROUP == 0u
    && SPREAD_STEP % SUBGROUP == 0u && PRE_WIDTH % (SPREAD_STEP * PROJECT_COLUMNS) == 0u;
const SHARED_LOADS: u32 = (PROJECT_ROWS + SUBGROUP - 1u) / SUBGROUP;
const SPREAD_TILES: u32 = (PRE_WIDTH + PROJECT_COLUMNS - 1u) / PROJECT_COLUMNS;
const SPREAD_GROUPS: u32 = (SPREAD_TILES + WIDTH - 1u) / WIDTH;
const SPREAD_STEP: u32 = (SPREAD_TILES + SPREAD_GROUPS - 1u) / SPREAD_GROUPS;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let direction = group.z;
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let place = spread(group, lane, PRE_WIDTH, PROJECT_COLUMNS);
    if place.row >= (rows + PROJECT_ROWS - 1u) / PROJECT_ROWS {
        return;
    }
    let row = place.row * PROJECT_ROWS;
    let depth = (dims.input_size + 3u) / 4u;
    let at = direction * (depth + EXACT) * PRE_WIDTH;

    // Rows and columns past the edge compute a copy of the last one, which is not stored.
    var columns: array<u32, PROJECT_COLUMNS>;
    for (var c = 0u; c < PROJECT_COLUMNS; c++) {
        columns[c] = at + min(place.column + c * place.step, PRE_WIDTH - 1u);
    }
    var inputs: array<u32, PROJECT_ROWS>;
    for (var r = 0u; r < PROJECT_ROWS; r++) {
        inputs[r] = input_row(direction, start + min(row + r, rows - 1u));
    }
    var shared_inputs: array<u32, SHARED_LOADS>;
    for (var n = 0u; n < SHARED_LOADS; n++) {
        shared_inputs[n] = input_row(direction, start + min(row + n * SUBGROUP + lane % SUBGROUP, rows - 1u));
    }
    var acc: array<array<real, PROJECT_ROWS>, PROJECT_COLUMNS>;
    for (var c = 0u; c < PROJECT_COLUMNS; c++) {
        var bias: real = 0.0;
        if !SCALED {
            bias = exact(at + depth * PRE_WIDTH, columns[c] - at, 0u);
        }
        for (var r = 0u; r < PROJECT_ROWS; r++) {
            acc[c][r] = bias;
        }
    }
    for (var k = 0u; k < depth; k++) {
        var w: array<vec4<real>, PROJECT_COLUMNS>;
        for (var c = 0u; c < PROJECT_COLUMNS; c++) {
            w[c] = weight4(columns[c] + k * PRE_WIDTH);
        }
        var shared_v: vec4<real>;
        for (var r = 0u; r < PROJECT_ROWS; r++) {
            var v: vec4<real>;
            if SHARES {
                if r % SUBGROUP == 0u {
                    shared_v = load_input(shared_inputs[r / SUBGROUP], k);
                }
                v = from_lane(shared_v, r % SUBGROUP);
            } else {
                v = load_input(inputs[r], k);
            }
            for (var c = 0u; c < PROJECT_COLUMNS; c++) {
                acc[c][r] = fma(w[c].w, v.w, fma(w[c].z, v.z, fma(w[c].y, v.y, fma(w[c].x, v.x, acc[c][r]))));
            }
        }
    }
    if SCALED {
        for (var c = 0u; c < PROJECT_COLUMNS; c++) {
            let bias = exact(at + depth * PRE_WIDTH, columns[c] - at, 0u);
            let scale = exact(at + depth * PRE_WIDTH, columns[c] - at, 1u);
            for (var r = 0u; r < PROJECT_ROWS; r++) {
                acc[c][r] = fma(acc[c][r], scale, bias);
            }
        }
    }
    // Where loops are not unrolled a row at a time: the stores of all of them would take the compiler seconds.
    let count = select(min(rows - row, PROJECT_ROWS), PROJECT_ROWS, UNROLL);
    for (var r = 0u; r < count; r++) {
        var own: array<real, PROJECT_COLUMNS>;
        for (var n = 0u; n < PROJECT_ROWS; n++) {
            for (var c = 0u; c < PROJECT_COLUMNS; c++) {
                own[c] = select(own[c], acc[c][n], r == n);
            }
        }
        if row + r < rows {
            for (var c = 0u; c < PROJECT_COLUMNS; c++) {
                let column = place.column + c * place.step;
                if column < PRE_WIDTH {
                    pre[pre_row(direction, start + row + r) * ROW_WIDTH + column] = gate(own[c]);
                }
            }
        }
    }
}
