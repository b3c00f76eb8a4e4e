// sequence_backward: the block's steps backwards inside the kernel, last step first. One workgroup owns some sequences of one
// direction and all their units; gradients of pre-activations pass between its invocations through `pre`, so a storage
// barrier within the workgroup is the only synchronisation.
//
// Parallel over: lanes = units (WIDTH >= every stage's units), y = sequences, z = direction. Gradients of states stay in
// registers. Each stage is kernels/sequence_backward_stage.wgsl; `run_stages` calls them, last stage first.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
@group(0) @binding(2) var<storage, read_write> pre: array<real>;
@group(0) @binding(3) var<storage, read> history: array<real>;
@group(0) @binding(4) var<storage, read_write> d_state: array<real>;
@group(0) @binding(5) var<storage, read> dy: array<real>;
@group(0) @binding(6) var<storage, read> d_hidden: array<real>;
@group(0) @binding(7) var<storage, read_write> d_unit: array<real>;
@group(0) @binding(8) var<storage, read> schedule: array<u32>;

var<private> d_memory: array<real, STATES>;
// Of what episodes began from.
var<private> d_initial: array<real, STATES>;
var<private> d_params: array<real, UNIT_SUMS>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    use_direction(group.z);
    let b = group.y;
    let own = min(lane, HIDDEN - 1u);
    let place = group.z * dims.batch + b;
    for (var i = 0u; i < STATE_COUNT; i++) {
        d_memory[i] = d_state[(place * STATE_COUNT + i) * HIDDEN + own];
    }
    let initial = DIRECTIONS * dims.batch + place;
    if RESETS {
        for (var i = 0u; i < STATE_COUNT; i++) {
            d_initial[i] = d_state[(initial * STATE_COUNT + i) * HIDDEN + own];
        }
    }
    for (var i = 0u; i < UNIT_PARAMS; i++) {
        d_params[i] = d_unit[(place * UNIT_PARAMS + i) * HIDDEN + own];
    }
    if RECURRENT_DROPOUT {
        own_factor = recurrent_factor(dims.layer * DIRECTIONS + group.z, b, min(lane, OUTPUT - 1u));
    }
    let end = min(dims.end, length_of(b));
    for (var s = end; s > dims.first; s--) {
        run_stages(group.z, s - 1u, b, lane);
    }
    if lane < HIDDEN {
        for (var i = 0u; i < STATE_COUNT; i++) {
            d_state[(place * STATE_COUNT + i) * HIDDEN + lane] = d_memory[i];
            if RESETS {
                d_state[(initial * STATE_COUNT + i) * HIDDEN + lane] = d_initial[i];
            }
        }
        for (var i = 0u; i < UNIT_PARAMS; i++) {
            d_unit[(place * UNIT_PARAMS + i) * HIDDEN + lane] = d_params[i];
        }
    }
}
