// The matrix product of kernels for GPUs: a workgroup of 8 x 8 lanes owns a tile of the result, a lane LANE_ROWS x LANE_COLUMNS
// of it in registers, as far apart as there are lanes. Both operands pass through workgroup memory, TILE_DEPTH vec4s of k at a
// time. (Loading the next ones while these are multiplied took 144 registers instead of 120 on navi21, 6 waves instead of 8,
// and spilled on gfx1100: benches/isa. Other waves are there to hide the loads.) The kernel says what the operands are:
//   fn load_left(n: u32, k: u32) -> vec4<real>    four k of row left_row(lane, n) of the tile
//   fn load_right(n: u32, k: u32) -> vec4<real>   the same of column right_column(lane, n)
// k runs in ascending order, one fma after the other, as in the kernels without workgroup memory: the same bits.

const LANES: u32 = 8u;
const TILE_ROWS: u32 = LANES * LANE_ROWS;
const TILE_COLUMNS: u32 = LANES * LANE_COLUMNS;
const TILE_DEPTH: u32 = 2u;
// One more than a row has: lanes that store several k of a row do so in different banks.
const LEFT_STRIDE: u32 = TILE_ROWS + 1u;
const LEFT_LOADS: u32 = TILE_ROWS * TILE_DEPTH / WIDTH;
const RIGHT_LOADS: u32 = TILE_COLUMNS * TILE_DEPTH / WIDTH;
// fma(-0, 0, c) is c, of a c of -0 too: what operands are past their end.
const NOTHING: real = -0.0;

// [k][row] and [k][column]
var<workgroup> left: array<vec4<real>, TILE_DEPTH * LEFT_STRIDE>;
var<workgroup> right: array<vec4<real>, TILE_DEPTH * TILE_COLUMNS>;
var<private> product: array<array<real, LANE_COLUMNS>, LANE_ROWS>;
// Of kernels that want it: the sum of the lane's row of the left operand.
var<private> row_sum: real;

// Of a lane's loads: neighbours load neighbouring k of the left operand's rows, and neighbouring columns of the right one.
fn left_row(lane: u32, n: u32) -> u32 {
    return lane / TILE_DEPTH + n * (WIDTH / TILE_DEPTH);
}

fn right_column(lane: u32, n: u32) -> u32 {
    return (lane + n * WIDTH) % TILE_COLUMNS;
}

// Where a lane's values of the result lie in the tile.
fn lane_row(lane: u32, r: u32) -> u32 {
    return lane / LANES + r * LANES;
}

fn lane_column(lane: u32, c: u32) -> u32 {
    return lane % LANES + c * LANES;
}

fn multiply_tile(lane: u32) {
    for (var k = 0u; k < TILE_DEPTH; k++) {
        var b: array<vec4<real>, LANE_COLUMNS>;
        for (var c = 0u; c < LANE_COLUMNS; c++) {
            b[c] = right[k * TILE_COLUMNS + lane_column(lane, c)];
        }
        for (var r = 0u; r < LANE_ROWS; r++) {
            let a = left[k * LEFT_STRIDE + lane_row(lane, r)];
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                product[r][c] = fma(b[c].w, a.w, fma(b[c].z, a.z, fma(b[c].y, a.y, fma(b[c].x, a.x, product[r][c]))));
            }
        }
    }
}

var<private> next_left: array<vec4<real>, LEFT_LOADS>;
var<private> next_right: array<vec4<real>, RIGHT_LOADS>;

// The lane's share of the operands from k = first on.
fn load_next(lane: u32, first: u32, depth: u32) {
    let own = first + lane % TILE_DEPTH;
    for (var n = 0u; n < LEFT_LOADS; n++) {
        next_left[n] = vec4<real>(NOTHING);
        if own < depth {
            next_left[n] = load_left(n, own);
        }
    }
    for (var n = 0u; n < RIGHT_LOADS; n++) {
        let k = first + (lane + n * WIDTH) / TILE_COLUMNS;
        next_right[n] = vec4<real>(0.0);
        if k < depth {
            next_right[n] = load_right(n, k);
        }
    }
}

// Adds `depth` vec4s of k to the product; `sum_rows`: to the row's sum, too. All lanes of the workgroup come here.
fn tile_product(lane: u32, depth: u32, sum_rows: bool) {
    for (var first = 0u; first < depth; first += TILE_DEPTH) {
        load_next(lane, first, depth);
        // What was multiplied before is needed no more.
        workgroupBarrier();
        for (var n = 0u; n < LEFT_LOADS; n++) {
            left[lane % TILE_DEPTH * LEFT_STRIDE + left_row(lane, n)] = next_left[n];
        }
        for (var n = 0u; n < RIGHT_LOADS; n++) {
            right[lane + n * WIDTH] = next_right[n];
        }
        workgroupBarrier();
        multiply_tile(lane);
        if sum_rows && lane < TILE_ROWS {
            for (var k = 0u; k < TILE_DEPTH; k++) {
                let a = left[k * LEFT_STRIDE + lane];
                row_sum = (((row_sum + a.x) + a.y) + a.z) + a.w;
            }
        }
    }
}
