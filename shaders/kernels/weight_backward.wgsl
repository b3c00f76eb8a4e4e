// weight_backward: the gradient of a matrix and its bias: d_pre^T times [operand | 1], summed over rows of a stretch of steps
// in blocks of GRADIENT_BLOCK, newest block first, onto the sum of the stretches after it: a fixed order however it is cut. The
// last stretch starts from 0, or from what is there where gradients accumulate.
//
// Parallel over: x and y = the gradient's columns (those of the operand; the last one is the bias) and rows (columns of d_pre)
// by lib/spread.wgsl, z = direction. An invocation owns WEIGHT_COLUMNS of them for WEIGHT_ROWS rows in registers. Where the
// operand comes from, and which part of it a row sees: lib/operand_*.wgsl.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> pre: array<real>;
@group(0) @binding(2) var<storage, read> operand: array<real>;
@group(0) @binding(3) var<storage, read_write> gradient: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let direction = group.z;
    let depth = operand_width();
    let place = spread(group, lane, depth + 1u, WEIGHT_COLUMNS);
    if place.row >= (GRADIENT_ROWS + WEIGHT_ROWS - 1u) / WEIGHT_ROWS {
        return;
    }
    let first = place.row * WEIGHT_ROWS;
    // Rows and columns past the edge compute a copy of the last one, which is not stored; the bias one of the last feature,
    // to be replaced.
    var column: array<u32, WEIGHT_ROWS>;
    var start: array<u32, WEIGHT_ROWS>;
    var feature: array<u32, WEIGHT_COLUMNS>;
    var sum: array<array<real, WEIGHT_COLUMNS>, WEIGHT_ROWS>;
    for (var c = 0u; c < WEIGHT_COLUMNS; c++) {
        feature[c] = min(place.column + c * place.step, max(depth, 1u) - 1u);
    }
    for (var m = 0u; m < WEIGHT_ROWS; m++) {
        column[m] = gradient_column(min(first + m, GRADIENT_ROWS - 1u));
        start[m] = operand_start(min(first + m, GRADIENT_ROWS - 1u));
        if (dims.end < dims.time || dims.accumulate == 1u) && first + m < GRADIENT_ROWS {
            let at = (direction * GRADIENT_ROWS + first + m) * (depth + 1u) + place.column;
            for (var c = 0u; c < WEIGHT_COLUMNS; c++) {
                if place.column + c * place.step <= depth {
                    sum[m][c] = gradient[at + c * place.step];
                }
            }
        }
    }
    // Stretches start at multiples of GRADIENT_BLOCK.
    for (var block = (dims.end + GRADIENT_BLOCK - 1u) / GRADIENT_BLOCK; block * GRADIENT_BLOCK > dims.first; block--) {
        var part: array<array<real, WEIGHT_COLUMNS>, WEIGHT_ROWS>;
        for (var s = min(block * GRADIENT_BLOCK, dims.end); s > (block - 1u) * GRADIENT_BLOCK; s--) {
            let step_row = row_offset(s - 1u);
            let running = active_at(s - 1u);
            let row = pre_row(direction, step_row);
            for (var b = 0u; b < running; b++) {
                let source = operand_at(direction, s - 1u, b);
                let at = (row + b) * ROW_WIDTH;
                var v: array<real, WEIGHT_COLUMNS>;
                if ONE_OPERAND {
                    for (var c = 0u; c < WEIGHT_COLUMNS; c++) {
                        v[c] = select(operand[source + feature[c]], 1.0, place.column + c * place.step >= depth);
                    }
                }
                for (var m = 0u; m < WEIGHT_ROWS; m++) {
                    let d = pre[at + column[m]];
                    for (var c = 0u; c < WEIGHT_COLUMNS; c++) {
                        if !ONE_OPERAND {
                            let value = operand[source + start[m] + feature[c]];
                            v[c] = select(value, 1.0, place.column + c * place.step >= depth);
                        }
                        part[m][c] = fma(d, v[c], part[m][c]);
                    }
                }
            }
        }
        for (var m = 0u; m < WEIGHT_ROWS; m++) {
            for (var c = 0u; c < WEIGHT_COLUMNS; c++) {
                sum[m][c] += part[m][c];
            }
        }
    }
    for (var m = 0u; m < WEIGHT_ROWS; m++) {
        let at = (direction * GRADIENT_ROWS + first + m) * (depth + 1u) + place.column;
        for (var c = 0u; c < WEIGHT_COLUMNS; c++) {
            if first + m < GRADIENT_ROWS && place.column + c * place.step <= depth {
                gradient[at + c * place.step] = sum[m][c];
            }
        }
    }
}
