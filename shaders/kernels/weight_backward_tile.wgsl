// weight_backward on GPUs: the same sums as kernels/weight_backward.wgsl, the same bits, by lib/tile.wgsl. A stretch's running sum
// stays in `gradient`; the bias is the sum of a row of d_pre, made by the workgroups of the first columns.
//
// Parallel over: x and y = tiles of the operand's columns and of rows (columns of d_pre), z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> pre: array<real>;
@group(0) @binding(2) var<storage, read> operand: array<real>;
@group(0) @binding(3) var<storage, read_write> gradient: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

const LANE_ROWS: u32 = WEIGHT_ROWS;
const LANE_COLUMNS: u32 = WEIGHT_COLUMNS;

// Where the rows of d_pre and of the operand start that a stretch of k goes over, and how many there are.
var<workgroup> pre_at: array<u32, WIDTH>;
var<workgroup> operand_from: array<u32, WIDTH>;
var<private> count: u32;

var<private> columns: array<u32, LEFT_LOADS>;
var<private> features: array<u32, RIGHT_LOADS>;

// Which of the four k from 4k on there are.
fn are_there(k: u32) -> vec4<bool> {
    return vec4<u32>(0u, 1u, 2u, 3u) + k * 4u < vec4<u32>(count);
}

fn load_left(n: u32, k: u32) -> vec4<real> {
    let i = vec4<u32>(pre_at[k * 4u], pre_at[k * 4u + 1u], pre_at[k * 4u + 2u], pre_at[k * 4u + 3u]) + columns[n];
    return select(vec4<real>(NOTHING), vec4<real>(pre[i.x], pre[i.y], pre[i.z], pre[i.w]), are_there(k));
}

fn load_right(n: u32, k: u32) -> vec4<real> {
    let i = vec4<u32>(operand_from[k * 4u], operand_from[k * 4u + 1u], operand_from[k * 4u + 2u], operand_from[k * 4u + 3u]) + features[n];
    return select(vec4<real>(0.0), vec4<real>(operand[i.x], operand[i.y], operand[i.z], operand[i.w]), are_there(k));
}

// The j-th pair of step and sequence of steps [low, high): the last step first, of a step the first sequence first.
fn find_row(direction: u32, low: u32, high: u32, j: u32, lane: u32) {
    // The last step s of which the steps from s on have more than j pairs.
    var s = low;
    var end = high;
    while end - s > 1u {
        let middle = (s + end) / 2u;
        if row_offset(high) - row_offset(middle) > j {
            s = middle;
        } else {
            end = middle;
        }
    }
    let b = j - (row_offset(high) - row_offset(s + 1u));
    pre_at[lane] = pre_row(direction, row_offset(s) + b) * ROW_WIDTH;
    operand_from[lane] = operand_at(direction, s, b);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let direction = group.z;
    let depth = operand_width();
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    let is_first = group.x == 0u;
    // Rows and columns past the edge compute a copy of the last one, which is not stored.
    for (var n = 0u; n < LEFT_LOADS; n++) {
        columns[n] = gradient_column(min(first_row + left_row(lane, n), GRADIENT_ROWS - 1u));
    }
    for (var n = 0u; n < RIGHT_LOADS; n++) {
        features[n] = min(first_column + right_column(lane, n), max(depth, 1u) - 1u);
    }
    var adds = dims.end < dims.time || dims.accumulate == 1u;
    // Stretches start at multiples of GRADIENT_BLOCK.
    for (var block = (dims.end + GRADIENT_BLOCK - 1u) / GRADIENT_BLOCK; block * GRADIENT_BLOCK > dims.first; block--) {
        let low = (block - 1u) * GRADIENT_BLOCK;
        let high = min(block * GRADIENT_BLOCK, dims.end);
        let rows = row_offset(high) - row_offset(low);
        product = array<array<real, LANE_COLUMNS>, LANE_ROWS>();
        row_sum = 0.0;
        for (var first = 0u; first < rows; first += WIDTH) {
            count = min(rows - first, WIDTH);
            // Lanes past the end find the last pair again, whose values are not taken.
            find_row(direction, low, high, min(first + lane, rows - 1u), lane);
            workgroupBarrier();
            tile_product(lane, (count + 3u) / 4u, is_first);
        }
        let bias_row = (direction * GRADIENT_ROWS + first_row + lane) * (depth + 1u);
        if is_first && lane < TILE_ROWS && first_row + lane < GRADIENT_ROWS {
            var sum: real = 0.0;
            if adds {
                sum = gradient[bias_row + depth];
            }
            gradient[bias_row + depth] = sum + row_sum;
        }
        for (var r = 0u; r < LANE_ROWS; r++) {
            let row = first_row + lane_row(lane, r);
            let to = (direction * GRADIENT_ROWS + row) * (depth + 1u);
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                let column = first_column + lane_column(lane, c);
                if row < GRADIENT_ROWS && column < depth {
                    var sum: real = 0.0;
                    if adds {
                        sum = gradient[to + column];
                    }
                    gradient[to + column] = sum + product[r][c];
                }
            }
        }
        adds = true;
    }
}
