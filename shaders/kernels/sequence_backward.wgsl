// sequence_backward: the block's steps backwards inside the kernel, last step first. One workgroup owns some sequences of one
// direction and all their units; gradients of pre-activations pass between its invocations through `pre`, so a storage
// barrier within the workgroup is the only synchronisation.
//
// Parallel over: lanes = units (WIDTH >= every stage's units), y = tiles of BACK_TILE sequences, z = direction (and layer). Gradients of
// states stay in registers. Each stage is kernels/sequence_backward_stage.wgsl; `run_stages` calls them, last stage first.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
@group(0) @binding(2) var<storage, read_write> pre: array<real>;
@group(0) @binding(3) var<storage, read> history: array<real>;
@group(0) @binding(4) var<storage, read_write> d_state: array<real>;
@group(0) @binding(5) var<storage, read> dy: array<real>;
@group(0) @binding(6) var<storage, read> d_hidden: array<real>;
@group(0) @binding(7) var<storage, read_write> d_unit: array<real>;
@group(0) @binding(8) var<storage, read> schedule: array<u32>;

var<private> d_memory: array<array<real, STATES>, BACK_TILE>;
// Of what episodes began from.
var<private> d_initial: array<array<real, STATES>, BACK_TILE>;
var<private> d_params: array<array<real, UNIT_SUMS>, BACK_TILE>;
// The recurrent masks of the invocation's own unit, made once per dispatch.
var<private> own_factors: array<real, BACK_TILE>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    use_direction(group.z);
    let tile = group.y * BACK_TILE;
    let own = min(lane, HIDDEN - 1u);
    // Sequences past the batch are copies of the last one, which are not stored.
    for (var slot = 0u; slot < BACK_TILE; slot++) {
        let b = min(tile + slot, dims.batch - 1u);
        let place = plane(group.z) * dims.batch + b;
        let initial = dims.planes * dims.batch + place;
        for (var i = 0u; i < STATE_COUNT; i++) {
            d_memory[slot][i] = d_state[(place * STATE_COUNT + i) * HIDDEN + own];
            if RESETS {
                d_initial[slot][i] = d_state[(initial * STATE_COUNT + i) * HIDDEN + own];
            }
        }
        for (var i = 0u; i < UNIT_PARAMS; i++) {
            d_params[slot][i] = d_unit[(place * UNIT_PARAMS + i) * HIDDEN + own];
        }
        if RECURRENT_DROPOUT {
            own_factors[slot] = recurrent_factor(dims.layer * DIRECTIONS + group.z, b, min(lane, OUTPUT - 1u));
        }
    }
    // Sequences are sorted: the first of the tile is its longest.
    let behind = lag(group.z);
    for (var s = min(dims.end - behind, length_of(tile)); s > dims.first - behind; s--) {
        run_stages(group.z, s - 1u, tile, active_at(s - 1u), lane);
    }
    for (var slot = 0u; slot < BACK_TILE; slot++) {
        if tile + slot < dims.batch && lane < HIDDEN {
            let place = plane(group.z) * dims.batch + tile + slot;
            let initial = dims.planes * dims.batch + place;
            for (var i = 0u; i < STATE_COUNT; i++) {
                d_state[(place * STATE_COUNT + i) * HIDDEN + lane] = d_memory[slot][i];
                if RESETS {
                    d_state[(initial * STATE_COUNT + i) * HIDDEN + lane] = d_initial[slot][i];
                }
            }
            for (var i = 0u; i < UNIT_PARAMS; i++) {
                d_unit[(place * UNIT_PARAMS + i) * HIDDEN + lane] = d_params[slot][i];
            }
        }
    }
}
