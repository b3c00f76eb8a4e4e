// begin_segment: states and h before a segment's first step into the rows that the history starts with, and what episodes
// begin from into the rows for that.
// One invocation per (unit, sequence); z = direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> operand: array<real>;
@group(0) @binding(2) var<storage, read> state: array<real>;
@group(0) @binding(3) var<storage, read_write> history: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

fn copy(place: u32, to: u32, unit: u32) {
    let row = to * HISTORY;
    if unit < HIDDEN {
        for (var s = 0u; s < STATE_COUNT; s++) {
            history[row + s * HIDDEN + unit] = state[(place * STATE_COUNT + s) * HIDDEN + unit];
        }
    }
    if unit < OUTPUT {
        history[row + STATE_COUNT * HIDDEN + unit] = operand[place * OPERAND_ROW + unit];
    }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let place = (dims.layer * DIRECTIONS + group.z) * dims.batch + group.y;
    copy(place, history_start(group.z, group.y), unit);
    if RESETS {
        copy(LAYERS * DIRECTIONS * dims.batch + place, history_initial(group.z, group.y), unit);
    }
}
