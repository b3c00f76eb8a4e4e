// input_backward on GPUs: the same product as kernels/input_backward.wgsl, the same bits, by lib/tile.wgsl.
//
// Parallel over: x and y = tiles of features and packed rows.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
@group(0) @binding(2) var<storage, read> pre: array<real>;
@group(0) @binding(3) var<storage, read_write> dx: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

const LANE_ROWS: u32 = PROJECT_ROWS;
const LANE_COLUMNS: u32 = INPUT_COLUMNS;

var<private> gradients: array<u32, LEFT_LOADS>;
var<private> features: array<u32, RIGHT_LOADS>;

fn load_left(n: u32, k: u32) -> vec4<real> {
    let at = gradients[n];
    if PRE_WIDTH % 4u == 0u {
        let i = at + k * 4u;
        return vec4<real>(pre[i], pre[i + 1u], pre[i + 2u], pre[i + 3u]);
    }
    // W is 0 past the last column.
    let i = at + min(vec4<u32>(0u, 1u, 2u, 3u) + k * 4u, vec4<u32>(PRE_WIDTH - 1u));
    return vec4<real>(pre[i.x], pre[i.y], pre[i.z], pre[i.w]);
}

fn load_right(n: u32, k: u32) -> vec4<real> {
    return weight4(features[n] + k * dims.input_size);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    for (var direction = first_direction(); direction < end_direction(); direction++) {
        add_direction(direction, lane, first_column, start + first_row, start + rows);
    }
}

// One direction's part of the tile's rows, from `first` on.
fn add_direction(direction: u32, lane: u32, first_column: u32, first: u32, end: u32) {
    let depth = (PRE_WIDTH + 3u) / 4u;
    // Rows and features past the edge compute a copy of the last one, which is not stored.
    for (var n = 0u; n < LEFT_LOADS; n++) {
        let row = row_in(direction, min(first + left_row(lane, n), end - 1u));
        gradients[n] = pre_row(direction, row) * ROW_WIDTH;
    }
    for (var n = 0u; n < RIGHT_LOADS; n++) {
        let feature = min(first_column + right_column(lane, n), dims.input_size - 1u);
        features[n] = direction * depth * dims.input_size + feature;
    }
    product = array<array<real, LANE_COLUMNS>, LANE_ROWS>();
    tile_product(lane, depth, false);
    for (var r = 0u; r < LANE_ROWS; r++) {
        let row = first + lane_row(lane, r);
        if row < end {
            let to = input_row(direction, row_in(direction, row)) * dims.input_size;
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                let column = first_column + lane_column(lane, c);
                if column < dims.input_size {
                    dx[to + column] += product[r][c];
                }
            }
        }
    }
}
