// rebuild_normalise: the row statistic of the product of normalising stage _STAGE again, in place over what rebuild left in `pre`;
// and, for a stage that is not the last, its `out` into the history, the next stage's operand.
//
// One workgroup per PROJECT_ROWS packed rows of a block of steps (y) and direction (z), one row after the other; a lane owns some
// units with all their gates, and the sums run in a fixed order.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
// binding 2, pre: lib/keep_history.wgsl
// binding 3, history: lib/keep_history.wgsl
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let direction = group.z;
    use_direction(direction);
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let count = real(RECURRENT_STAGE * UNITS_STAGE);
    for (var i = 0u; i < PROJECT_ROWS; i++) {
        let at = group.y * PROJECT_ROWS + i;
        if at >= rows {
            break;
        }
        let r = start + at;
        let row = pre_row(direction, r);
        var sum: real = 0.0;
        for (var unit = lane; unit < UNITS_STAGE; unit += WIDTH) {
            for (var g = INPUT_STAGE; g < PRE_STAGE; g++) {
                sum += pre[gate_at_STAGE(row, g, unit)];
            }
        }
        let mean = workgroup_sum(lane, vec4<real>(sum)).x / count;
        sum = 0.0;
        for (var unit = lane; unit < UNITS_STAGE; unit += WIDTH) {
            for (var g = INPUT_STAGE; g < PRE_STAGE; g++) {
                let v = pre[gate_at_STAGE(row, g, unit)] - mean;
                sum += v * v;
            }
        }
        let scale = 1.0 / sqrt(workgroup_sum(lane, vec4<real>(sum)).x / count + NORMALISE_EPSILON);
        if lane == 0u {
            pre[row * ROW_WIDTH + SCALE_AT_STAGE] = scale;
        }
        let s = step_of(r);
        let b = r - row_offset(s);
        for (var unit = lane; unit < UNITS_STAGE; unit += WIDTH) {
            for (var g = INPUT_STAGE; g < PRE_STAGE; g++) {
                let place = gate_at_STAGE(row, g, unit);
                pre[place] = (pre[place] - mean) * scale;
            }
            if !LAST_STAGE {
                var memory: array<real, STATES>;
                for (var n = 0u; n < STATE_COUNT_STAGE; n++) {
                    memory[n] = history[history_before(direction, s, b) * HISTORY + n * HIDDEN + unit];
                }
                memory = states_before_STAGE(direction, row, unit, memory);
                let own = cell_params_STAGE(unit_params_STAGE(direction, unit));
                let after = forward_STAGE(read_gates_STAGE(direction, row, unit), memory, own);
                keep(direction, s, b, LINK_AT_STAGE + unit, after.out);
            }
        }
    }
}
