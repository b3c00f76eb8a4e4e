// project on GPUs: the same product as kernels/project.wgsl, the same bits, by lib/tile.wgsl.
//
// Parallel over: x and y = tiles of columns and rows, z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
// binding 1, x: lib/input_vec4.wgsl or lib/input_scalar.wgsl
@group(0) @binding(2) var<storage, read> weights: array<Packed>;
@group(0) @binding(3) var<storage, read_write> pre: array<gate>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

const LANE_ROWS: u32 = PROJECT_ROWS;
const LANE_COLUMNS: u32 = PROJECT_COLUMNS;

var<private> inputs: array<u32, LEFT_LOADS>;
var<private> columns: array<u32, RIGHT_LOADS>;

fn load_left(n: u32, k: u32) -> vec4<real> {
    return load_input(inputs[n], k);
}

fn load_right(n: u32, k: u32) -> vec4<real> {
    return weight4(columns[n] + k * PRE_WIDTH);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let direction = group.z;
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    let depth = (dims.input_size + 3u) / 4u;
    let at = direction * (depth + EXACT) * PRE_WIDTH;
    let exact_at = at + depth * PRE_WIDTH;

    // Rows and columns past the edge compute a copy of the last one, which is not stored.
    for (var n = 0u; n < LEFT_LOADS; n++) {
        inputs[n] = input_row(direction, start + min(first_row + left_row(lane, n), rows - 1u));
    }
    for (var n = 0u; n < RIGHT_LOADS; n++) {
        columns[n] = at + min(first_column + right_column(lane, n), PRE_WIDTH - 1u);
    }
    for (var c = 0u; c < LANE_COLUMNS; c++) {
        var bias: real = 0.0;
        if !SCALED {
            bias = exact(exact_at, min(first_column + lane_column(lane, c), PRE_WIDTH - 1u), 0u);
        }
        for (var r = 0u; r < LANE_ROWS; r++) {
            product[r][c] = bias;
        }
    }
    tile_product(lane, depth, false);
    if SCALED {
        for (var c = 0u; c < LANE_COLUMNS; c++) {
            let column = min(first_column + lane_column(lane, c), PRE_WIDTH - 1u);
            let bias = exact(exact_at, column, 0u);
            let scale = exact(exact_at, column, 1u);
            for (var r = 0u; r < LANE_ROWS; r++) {
                product[r][c] = fma(product[r][c], scale, bias);
            }
        }
    }
    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = first_row + lane_row(lane, r);
        if row < rows {
            let to = pre_row(direction, start + row) * ROW_WIDTH;
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                let column = first_column + lane_column(lane, c);
                if column < PRE_WIDTH {
                    pre[to + column] = gate(product[r][c]);
                }
            }
        }
    }
}
