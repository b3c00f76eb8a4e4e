// dropout: multiplies a layer's input (or its gradient) by its masks: `input`, the same for all steps, and from layer 1 on
// `layers`, new at every step. In place, or for the caller's x into a copy (binding 3, source). Rows past a sequence's end too:
// there is 0 there, or nothing that is ever read.
//
// Invocations stride over [T * B rows][features in fours]: one draw of four words each.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read_write> values: array<real>;
@group(0) @binding(2) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let quads = (dims.input_size + 3u) / 4u;
    let place = dims.layer * DIRECTIONS;
    for (var i = id.x; i < dims.time * dims.batch * quads; i += groups.x * WIDTH) {
        let row = i / quads;
        let quad = i % quads;
        let t = select(row / dims.batch, row % dims.time, BATCH_FIRST);
        let sequence = select(row % dims.batch, row / dims.time, BATCH_FIRST);
        var factor = vec4<real>(1.0);
        if INPUT_DROPOUT {
            factor = factors(mask_words(MASK_INPUT, place, sequence, 0u, quad), INPUT_THRESHOLD, INPUT_SCALE);
        }
        if LAYERS_DROPOUT && dims.layer > 0u {
            factor *= factors(mask_words(MASK_LAYERS, place, sequence, t, quad), LAYERS_THRESHOLD, LAYERS_SCALE);
        }
        for (var k = 0u; k < min(4u, dims.input_size - quad * 4u); k++) {
            let at = row * dims.input_size + quad * 4u + k;
            values[at] = source_value(at) * factor[k];
        }
    }
}
