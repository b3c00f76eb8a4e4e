// weight_backward: the gradient of a matrix and its bias: d_pre^T times [operand | 1], summed over rows of a stretch of steps
// in blocks of GRADIENT_BLOCK, newest block first, onto the sum of the stretches after it: a fixed order however it is cut. The
// last stretch starts from 0, or from what is there where gradients accumulate.
//
// Parallel over: x = columns of the operand (the last one is the bias), y = columns of d_pre, z = direction. An invocation
// owns 1 column of the operand and WEIGHT_ROWS of d_pre. Where the operand comes from, and which part of it a row sees:
// lib/operand_*.wgsl.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> pre: array<real>;
@group(0) @binding(2) var<storage, read> operand: array<real>;
@group(0) @binding(3) var<storage, read_write> gradient: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = gradient_place(group, lane);
    let k = place.x;
    let direction = group.z;
    let depth = operand_width();
    if k > depth {
        return;
    }
    let first = place.y;
    var column: array<u32, WEIGHT_ROWS>;
    var start: array<u32, WEIGHT_ROWS>;
    var sum: array<real, WEIGHT_ROWS>;
    for (var m = 0u; m < WEIGHT_ROWS; m++) {
        column[m] = gradient_column(min(first + m, GRADIENT_ROWS - 1u));
        start[m] = operand_start(min(first + m, GRADIENT_ROWS - 1u));
        if (dims.end < dims.time || dims.accumulate == 1u) && first + m < GRADIENT_ROWS {
            sum[m] = gradient[(direction * GRADIENT_ROWS + first + m) * (depth + 1u) + k];
        }
    }
    // Stretches start at multiples of GRADIENT_BLOCK.
    for (var block = (dims.end + GRADIENT_BLOCK - 1u) / GRADIENT_BLOCK; block * GRADIENT_BLOCK > dims.first; block--) {
        var part: array<real, WEIGHT_ROWS>;
        for (var s = min(block * GRADIENT_BLOCK, dims.end); s > (block - 1u) * GRADIENT_BLOCK; s--) {
            let step_row = row_offset(s - 1u);
            let running = active_at(s - 1u);
            for (var b = 0u; b < running; b++) {
                var v: real = 1.0;
                if ONE_OPERAND && k < depth {
                    v = operand_value(direction, s - 1u, b, k);
                }
                let at = pre_row(direction, step_row + b) * ROW_WIDTH;
                for (var m = 0u; m < WEIGHT_ROWS; m++) {
                    if !ONE_OPERAND && k < depth {
                        v = operand_value(direction, s - 1u, b, start[m] + k);
                    }
                    part[m] = fma(pre[at + column[m]], v, part[m]);
                }
            }
        }
        for (var m = 0u; m < WEIGHT_ROWS; m++) {
            sum[m] += part[m];
        }
    }
    for (var m = 0u; m < WEIGHT_ROWS; m++) {
        if first + m < GRADIENT_ROWS {
            gradient[(direction * GRADIENT_ROWS + first + m) * (depth + 1u) + k] = sum[m];
        }
    }
}
