// reset_state: where a new episode begins at this step, the operand and the states that it begins from (they lie behind those of
// all sequences). One invocation per (unit, sequence); z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> operand: array<real>;
@group(0) @binding(3) var<storage, read_write> state: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

// The step within the block: dynamic offset.
struct Step {
    index: u32,
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = dims.first + step.index - lag(group.z);
    let b = group.y;
    if b >= running_at(s) || !is_reset(group.z, row_offset(s) + b) {
        return;
    }
    let unit = group.x * WIDTH + lane;
    let place = (dims.layer * DIRECTIONS + group.z) * dims.batch + b;
    let initial = LAYERS * DIRECTIONS * dims.batch + place;
    if unit < HIDDEN {
        for (var i = 0u; i < STATE_COUNT; i++) {
            state[(place * STATE_COUNT + i) * HIDDEN + unit] = state[(initial * STATE_COUNT + i) * HIDDEN + unit];
        }
    }
    if unit < OUTPUT_PADDED {
        for (var i = unit; i < OPERAND_ROW; i += OUTPUT_PADDED) {
            operand[place * OPERAND_ROW + i] = operand[initial * OPERAND_ROW + i];
        }
    }
}
