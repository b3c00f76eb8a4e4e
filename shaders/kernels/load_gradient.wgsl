// load_gradient: the gradients of hn and cn into those of h and the states after the last step, in sorted order; that of other states and
// the sums of the unit parameters' gradients start at 0. One invocation per (unit, sequence); z = direction (and layer).

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> dhn: array<real>;
@group(0) @binding(2) var<storage, read> dcn: array<real>;
@group(0) @binding(3) var<storage, read_write> d_hidden: array<real>;
@group(0) @binding(4) var<storage, read_write> d_state: array<real>;
@group(0) @binding(5) var<storage, read_write> d_unit: array<real>;
@group(0) @binding(6) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let z = dims.layer * DIRECTIONS + group.z;
    let src = z * dims.batch + order_of(group.y);
    let dst = plane(group.z) * dims.batch + group.y;
    if unit < OUTPUT {
        d_hidden[dst * OUTPUT + unit] = dhn[src * OUTPUT + unit];
        if RESETS {
            d_hidden[(dims.planes * dims.batch + dst) * OUTPUT + unit] = 0.0;
        }
    }
    if unit >= HIDDEN {
        return;
    }
    var initial = STATE_INITIAL;
    var part = src * CELL_SIZE + unit;
    for (var s = 0u; s < STATE_COUNT; s++) {
        var v: real = 0.0;
        if initial[s] == FROM_CELL {
            v = dcn[part];
            part += HIDDEN;
        }
        d_state[(dst * STATE_COUNT + s) * HIDDEN + unit] = v;
        if RESETS {
            d_state[((dims.planes * dims.batch + dst) * STATE_COUNT + s) * HIDDEN + unit] = 0.0;
        }
    }
    for (var p = 0u; p < UNIT_PARAMS; p++) {
        d_unit[(dst * UNIT_PARAMS + p) * HIDDEN + unit] = 0.0;
    }
}
