// step_normalise_backward: the adjoints of the row statistics of a normalising stage at one step, of its W x and of its product:
//   d_p = (d - mean(d) - v mean(d v)) / sigma
// with v the normalised values, which `pre` keeps, and d their gradients, which step_backward left behind the sums of d_unit.
// Gradients of the parts replace v in `pre`.
//
// One workgroup per sequence (y) and direction (z); a lane owns some units with all their gates, and the sums run in a fixed
// order.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> pre: array<real>;
@group(0) @binding(3) var<storage, read> d_unit: array<real>;
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

// The step within the block: dynamic offset.
struct Step {
    index: u32,
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = dims.first + step.index - lag(group.z);
    let b = group.y;
    if b >= running_at(s) {
        return;
    }
    let place = plane(group.z) * dims.batch + b;
    let row = pre_row(group.z, row_offset(s) + b) * ROW_WIDTH;
    let waiting = (dims.planes * dims.batch * UNIT_PARAMS + place * NORMAL_GATES) * HIDDEN;
    var sum = vec4<real>();
    for (var unit = lane; unit < UNITS_STAGE; unit += WIDTH) {
        for (var g = 0u; g < INPUT_STAGE; g++) {
            let d = d_unit[waiting + g * HIDDEN + unit];
            sum += vec4<real>(d, d * pre[row + PRE_AT_STAGE + g * UNITS_STAGE + unit], 0.0, 0.0);
        }
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            let d = d_unit[waiting + (INPUT_STAGE + g) * HIDDEN + unit];
            sum += vec4<real>(0.0, 0.0, d, d * pre[row + ONLY_AT_STAGE + g * UNITS_STAGE + unit]);
        }
    }
    let columns = vec2<real>(real(max(INPUT_STAGE, 1u) * UNITS_STAGE), real(RECURRENT_STAGE * UNITS_STAGE));
    let mean = workgroup_sum(lane, sum) / columns.xxyy;
    for (var unit = lane; unit < UNITS_STAGE; unit += WIDTH) {
        for (var g = 0u; g < INPUT_STAGE; g++) {
            let at = row + PRE_AT_STAGE + g * UNITS_STAGE + unit;
            let d = d_unit[waiting + g * HIDDEN + unit];
            pre[at] = (d - mean.x - pre[at] * mean.y) * pre[row + INPUT_SCALE_AT_STAGE];
        }
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            let at = row + ONLY_AT_STAGE + g * UNITS_STAGE + unit;
            let d = d_unit[waiting + (INPUT_STAGE + g) * HIDDEN + unit];
            pre[at] = (d - mean.z - pre[at] * mean.w) * pre[row + SCALE_AT_STAGE];
        }
    }
}
