// normalise_input: the row statistic of W x of a normalising stage, in place over what project left in `pre`; training keeps what
// it divides by.
//
// One workgroup per PROJECT_ROWS packed rows of a block of steps (y) and direction (z), one row after the other; a lane owns some
// of the row's columns, and the sums run in a fixed order.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read_write> pre: array<gate>;
@group(0) @binding(2) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let columns = INPUT_STAGE * UNITS_STAGE;
    for (var i = 0u; i < PROJECT_ROWS; i++) {
        let r = group.y * PROJECT_ROWS + i;
        if r >= rows {
            break;
        }
        let row = pre_row(group.z, start + r) * ROW_WIDTH;
        let at = row + PRE_AT_STAGE;
        var sum: real = 0.0;
        for (var k = lane; k < columns; k += WIDTH) {
            sum += real(pre[at + k]);
        }
        let mean = workgroup_sum(lane, vec4<real>(sum)).x / real(columns);
        sum = 0.0;
        for (var k = lane; k < columns; k += WIDTH) {
            let v = real(pre[at + k]) - mean;
            sum += v * v;
        }
        let scale = 1.0 / sqrt(workgroup_sum(lane, vec4<real>(sum)).x / real(columns) + NORMALISE_EPSILON);
        for (var k = lane; k < columns; k += WIDTH) {
            pre[at + k] = gate((real(pre[at + k]) - mean) * scale);
        }
        if BACKWARD && lane == 0u {
            pre[row + INPUT_SCALE_AT_STAGE] = gate(scale);
        }
    }
}
