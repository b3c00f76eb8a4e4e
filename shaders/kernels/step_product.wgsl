// step_product: the recurrent part alone of a normalising stage, R · operand or the operand itself, for step_normalise.
// Parallel over units, tiles of TILE sequences, directions, as step_forward. product [sequence][recurrent gate][unit].

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<Packed>;
@group(0) @binding(3) var<storage, read> operand: array<vec4<real>>;
@group(0) @binding(4) var<storage, read_write> product: array<real>;
@group(0) @binding(5) var<storage, read> schedule: array<u32>;

// The step within the block: dynamic offset.
struct Step {
    index: u32,
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let running = running_at(dims.first + step.index - lag(group.z));
    let direction = group.z;
    let tile = group.y * TILE;
    let unit = group.x * WIDTH + lane;
    if tile >= running || unit >= UNITS_STAGE {
        return;
    }
    let sequence = (dims.layer * DIRECTIONS + direction) * dims.batch;
    for (var b = tile; b < min(tile + TILE, running); b++) {
        var acc: array<real, RECURRENT_STAGE>;
        let src = (sequence + b) * OPERAND_STRIDE_STAGE;
        if IDENTITY_STAGE {
            acc[0] = operand[src + unit / 4u][unit % 4u];
        } else {
            let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + unit;
            for (var k = 0u; k < DEPTH_STAGE; k++) {
                let h = head_operand_STAGE(src, unit, k);
                for (var g = 0u; g < RECURRENT_STAGE; g++) {
                    let r = weight4(at + (k * RECURRENT_STAGE + g) * UNITS_STAGE);
                    acc[g] = fma(r.w, h.w, fma(r.z, h.z, fma(r.y, h.y, fma(r.x, h.x, acc[g]))));
                }
            }
            if SCALED {
                for (var g = 0u; g < RECURRENT_STAGE; g++) {
                    acc[g] *= row_scale_STAGE(direction, unit, g);
                }
            }
        }
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            product[((plane(direction) * dims.batch + b) * RECURRENT_STAGE + g) * UNITS_STAGE + unit] = acc[g];
        }
    }
}
