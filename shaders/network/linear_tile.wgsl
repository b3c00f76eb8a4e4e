// linear_tile: the products of linear_rows and linear_weight on GPUs, with the same bits: every sum runs in ascending order, one fma
// after the other. SUM is what it sums over: the columns of x (y = x Wᵀ + b), those of y (dx += dy W), or rows (dW = dyᵀ x of a
// block of rows; fold adds the blocks).
//
// A workgroup of 8 x 8 lanes owns a tile of 64 x 64 results, a lane 8 x 8 of it in registers, as far apart as there are lanes. Both
// operands pass through workgroup memory, 16 k at a time; neighbouring lanes load neighbours in memory.

const OF_X: u32 = 0u;
const OF_Y: u32 = 1u;
const OF_ROWS: u32 = 2u;

const TILE: u32 = 64u;
const SIDE: u32 = 8u;
const STEP: u32 = 16u;
// One more than a row has: lanes that store several k of a row do so in different banks.
const STRIDE: u32 = TILE + 1u;

// [k][row] and [k][column]
var<workgroup> left: array<f32, STEP * STRIDE>;
var<workgroup> right: array<f32, STEP * STRIDE>;
var<private> sums: array<array<f32, SIDE>, SIDE>;

// The left operand at a row of results; what is past its end is multiplied by something finite and must be 0.
fn load_left(row: u32, k: u32, end: u32) -> f32 {
    if k >= end || row >= at_high() {
        return 0.0;
    }
    if SUM == OF_ROWS {
        return select(0.0, arena[at_x() + k * X_STRIDE + row], !is_padding(k));
    }
    return arena[at_x() + row * X_STRIDE + k];
}

// The right one at a column of results.
fn load_right(column: u32, k: u32, end: u32) -> f32 {
    if k >= end || column >= COLUMNS {
        return 0.0;
    }
    if SUM == OF_ROWS {
        return select(0.0, arena[at_w() + k * W_STRIDE + column], !is_padding(k));
    }
    if SUM == OF_Y {
        return params[at_w() + k * W_STRIDE + column];
    }
    return params[at_w() + column * W_STRIDE + k];
}

fn load_tiles(lane: u32, row: u32, column: u32, k: u32, end: u32) {
    for (var n = 0u; n < STEP; n++) {
        let i = n * (SIDE * SIDE) + lane;
        // k next to k, or row next to row.
        let across = vec2(i % STEP, i / STEP);
        let along = vec2(i / TILE, i % TILE);
        let l = select(across, along, SUM == OF_ROWS);
        let r = select(across, along, SUM != OF_X);
        left[l.x * STRIDE + l.y] = load_left(row + l.y, k + l.x, end);
        right[r.x * STRIDE + r.y] = load_right(column + r.y, k + r.x, end);
    }
}

fn multiply(lane: u32) {
    for (var k = 0u; k < STEP; k++) {
        var b: array<f32, SIDE>;
        for (var c = 0u; c < SIDE; c++) {
            b[c] = right[k * STRIDE + lane % SIDE + c * SIDE];
        }
        for (var r = 0u; r < SIDE; r++) {
            let a = left[k * STRIDE + lane / SIDE + r * SIDE];
            for (var c = 0u; c < SIDE; c++) {
                sums[r][c] = fma(a, b[c], sums[r][c]);
            }
        }
    }
}

fn store(block: u32, row: u32, column: u32, sum: f32) {
    if row >= at_high() || column >= COLUMNS {
        return;
    }
    if SUM == OF_ROWS {
        arena[at_y() + (block * at_high() + row) * COLUMNS + column] = sum;
    } else if SUM == OF_X {
        arena[at_y() + row * Y_STRIDE + column] = sum;
    } else if !is_padding(row) {
        arena[at_y() + row * Y_STRIDE + column] += sum;
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile = group.y * at_groups() + group.x;
    let wide = (COLUMNS + TILE - 1u) / TILE;
    let high = (at_high() + TILE - 1u) / TILE;
    let column = tile % wide * TILE;
    let row = tile / wide % high * TILE;
    let block = tile / (wide * high);
    for (var c = 0u; c < SIDE; c++) {
        var bias = 0.0;
        if BIAS {
            bias = params[at_bias() + min(column + lane % SIDE + c * SIDE, COLUMNS - 1u)];
        }
        for (var r = 0u; r < SIDE; r++) {
            sums[r][c] = bias;
        }
    }
    // Workgroups past the last tile have nothing to sum: all lanes of one alike.
    let first = block * at_block();
    let end = min(first + at_block(), at_depth());
    for (var k = first; k < end; k += STEP) {
        workgroupBarrier();
        load_tiles(lane, row, column, k, end);
        workgroupBarrier();
        multiply(lane);
    }
    if block >= at_blocks() {
        return;
    }
    for (var r = 0u; r < SIDE; r++) {
        for (var c = 0u; c < SIDE; c++) {
            store(block, row + lane / SIDE + r * SIDE, column + lane % SIDE + c * SIDE, sums[r][c]);
        }
    }
}
