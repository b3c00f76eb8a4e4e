// save_checkpoint: states and h before a segment's first step, to run the segment again later.
// One invocation per (unit, sequence); z = direction. A checkpoint row holds the states [S][H] and the operand's row.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> operand: array<real>;
@group(0) @binding(2) var<storage, read> state: array<real>;
@group(0) @binding(3) var<storage, read_write> checkpoints: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let layers = dims.layer * DIRECTIONS + group.z;
    let place = layers * dims.batch + group.y;
    let width = STATE_COUNT * HIDDEN + OPERAND_ROW;
    let row = ((dims.checkpoint * LAYERS * DIRECTIONS + layers) * dims.batch + group.y) * width;
    if unit < HIDDEN {
        for (var s = 0u; s < STATE_COUNT; s++) {
            checkpoints[row + s * HIDDEN + unit] = state[(place * STATE_COUNT + s) * HIDDEN + unit];
        }
    }
    if unit < OUTPUT_PADDED {
        for (var i = unit; i < OPERAND_ROW; i += OUTPUT_PADDED) {
            checkpoints[row + STATE_COUNT * HIDDEN + i] = operand[place * OPERAND_ROW + i];
        }
    }
}
