// step_normalise: the row statistic of a normalising stage and its pointwise part, after step_product.
// One workgroup per sequence (y) and direction (z); the sums run in a fixed order.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
// binding 2, pre: lib/keep_nothing.wgsl or lib/keep_history.wgsl
@group(0) @binding(3) var<storage, read> weights: array<Packed>;
@group(0) @binding(4) var<storage, read> product: array<real>;
@group(0) @binding(5) var<storage, read_write> out: array<real>;
@group(0) @binding(6) var<storage, read_write> state: array<real>;
@group(0) @binding(7) var<storage, read_write> y: array<act>;
@group(0) @binding(8) var<storage, read> schedule: array<u32>;

// The step within the block: dynamic offset.
struct Step {
    index: u32,
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = dims.first + step.index - lag(group.z);
    let direction = group.z;
    use_direction(direction);
    let b = group.y;
    if b >= running_at(s) {
        return;
    }
    let src = (plane(direction) * dims.batch + b) * (RECURRENT_STAGE * UNITS_STAGE);
    let count = real(RECURRENT_STAGE * UNITS_STAGE);
    var sum: real = 0.0;
    for (var i = lane; i < RECURRENT_STAGE * UNITS_STAGE; i += WIDTH) {
        sum += product[src + i];
    }
    let mean = workgroup_sum(lane, vec4<real>(sum)).x / count;
    sum = 0.0;
    for (var i = lane; i < RECURRENT_STAGE * UNITS_STAGE; i += WIDTH) {
        let v = product[src + i] - mean;
        sum += v * v;
    }
    let scale = 1.0 / sqrt(workgroup_sum(lane, vec4<real>(sum)).x / count + NORMALISE_EPSILON);

    let place = (dims.layer * DIRECTIONS + direction) * dims.batch + b;
    let first_row = row_offset(s);
    let row = pre_row(direction, first_row + b);
    if TRAIN && lane == 0u {
        keep_gate(row * ROW_WIDTH + SCALE_AT_STAGE, scale);
    }
    for (var unit = lane; unit < PADDED_STAGE; unit += WIDTH) {
        if unit >= UNITS_STAGE {
            out[place * OUT_STRIDE_STAGE + unit] = 0.0;
            if LAST_STAGE && RECURRENT_DROPOUT {
                out[place * OUT_STRIDE_STAGE + OWN_AT + unit] = 0.0;
            }
            continue;
        }
        var recurrent: array<real, RECURRENT_STAGE>;
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            recurrent[g] = (product[src + g * UNITS_STAGE + unit] - mean) * scale;
        }
        var memory: array<real, STATES>;
        for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
            memory[i] = state[(place * STATE_COUNT + i) * HIDDEN + unit];
        }
        if ZONEOUT {
            use_zone(direction, s, b, unit);
        }
        let params = unit_params_STAGE(direction, unit);
        let after = forward_STAGE(gates_STAGE(recurrent, row, unit, params), memory, cell_params_STAGE(params));
        memory = after.state;
        for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
            state[(place * STATE_COUNT + i) * HIDDEN + unit] = memory[i];
        }
        var seen = after.out;
        if LAST_STAGE && RECURRENT_DROPOUT {
            seen *= recurrent_factor(dims.layer * DIRECTIONS + direction, b, unit);
            out[place * OUT_STRIDE_STAGE + OWN_AT + unit] = after.out;
        }
        out[place * OUT_STRIDE_STAGE + unit] = seen;
        keep_stage_STAGE(direction, s, b, unit, memory, seen);
        if LAST_STAGE && WRITE_Y {
            y[output_row(direction, first_row + b) * UNITS_STAGE + unit] = act(after.out);
        }
    }
}
