// weight_backward where rows of d_pre and of the operand are whole vec4s: the same sums as kernels/weight_backward.wgsl, the same
// bits. A software rasteriser goes through the lanes for every load, so four neighbouring values cost little more than one.
//
// Parallel over: x and y = the gradient's columns in fours (those of the operand; the first of the last four is the bias) and rows
// (columns of d_pre) by lib/spread.wgsl, z = direction. An invocation owns ROW_FOURS x COLUMN_FOURS blocks of 4 x 4 of a stretch in
// registers; the running sum stays in `gradient`.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> pre: array<vec4<real>>;
@group(0) @binding(2) var<storage, read> operand: array<vec4<real>>;
@group(0) @binding(3) var<storage, read_write> gradient: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

const ROW_FOURS: u32 = WEIGHT_ROWS / 4u;
const COLUMN_FOURS: u32 = WEIGHT_COLUMNS / 4u;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let direction = group.z;
    let depth = operand_width();
    let place = spread(group, lane, depth / 4u + 1u, COLUMN_FOURS);
    if place.row >= (GRADIENT_ROWS + WEIGHT_ROWS - 1u) / WEIGHT_ROWS {
        return;
    }
    let first = place.row * WEIGHT_ROWS;
    // Rows and columns past the edge compute a copy of the last ones, which is not stored; those of the bias, too, to be replaced.
    var column: array<u32, ROW_FOURS>;
    var feature: array<u32, COLUMN_FOURS>;
    for (var c = 0u; c < COLUMN_FOURS; c++) {
        feature[c] = min(place.column + c * place.step, max(depth / 4u, 1u) - 1u);
    }
    for (var m = 0u; m < ROW_FOURS; m++) {
        column[m] = gradient_column(min(first + m * 4u, GRADIENT_ROWS - 4u)) / 4u;
    }
    // How much there is of the tile.
    let rows = min(GRADIENT_ROWS - first, WEIGHT_ROWS);
    var adds = dims.end < dims.time || dims.accumulate == 1u;
    // Stretches start at multiples of GRADIENT_BLOCK.
    for (var block = (dims.end + GRADIENT_BLOCK - 1u) / GRADIENT_BLOCK; block * GRADIENT_BLOCK > dims.first; block--) {
        var part: array<array<vec4<real>, COLUMN_FOURS>, WEIGHT_ROWS>;
        for (var s = min(block * GRADIENT_BLOCK, dims.end); s > (block - 1u) * GRADIENT_BLOCK; s--) {
            let running = active_at(s - 1u);
            let row = pre_row(direction, row_offset(s - 1u));
            for (var b = 0u; b < running; b++) {
                let source = operand_at(direction, s - 1u, b) / 4u;
                let at = (row + b) * (ROW_WIDTH / 4u);
                var v: array<vec4<real>, COLUMN_FOURS>;
                for (var c = 0u; c < COLUMN_FOURS; c++) {
                    v[c] = select(operand[source + feature[c]], vec4<real>(1.0), place.column + c * place.step >= depth / 4u);
                }
                for (var m = 0u; m < ROW_FOURS; m++) {
                    let d = pre[at + column[m]];
                    for (var i = 0u; i < 4u; i++) {
                        for (var c = 0u; c < COLUMN_FOURS; c++) {
                            part[m * 4u + i][c] = fma(vec4<real>(d[i]), v[c], part[m * 4u + i][c]);
                        }
                    }
                }
            }
        }
        // A row at a time: the loads and stores of all of them, unrolled, would take the compiler seconds.
        for (var m = 0u; m < rows; m++) {
            var own = part[0];
            for (var k = 1u; k < WEIGHT_ROWS; k++) {
                for (var c = 0u; c < COLUMN_FOURS; c++) {
                    own[c] = select(own[c], part[k][c], m == k);
                }
            }
            let at = (direction * GRADIENT_ROWS + first + m) * (depth + 1u);
            for (var c = 0u; c < COLUMN_FOURS; c++) {
                let to = (place.column + c * place.step) * 4u;
                for (var i = 0u; i < 4u; i++) {
                    if to + i <= depth {
                        var sum: real = 0.0;
                        if adds {
                            sum = gradient[at + to + i];
                        }
                        gradient[at + to + i] = sum + own[c][i];
                    }
                }
            }
        }
        adds = true;
    }
}
