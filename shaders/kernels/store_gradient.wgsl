// store_gradient: what flows out of the first step: gradients of h0 (of h, and of the units' own copy of it) and of c0, in
// the caller's order. One invocation per (unit, sequence); z = direction (and layer).

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> d_hidden: array<real>;
@group(0) @binding(2) var<storage, read> d_state: array<real>;
@group(0) @binding(3) var<storage, read_write> dh0: array<real>;
@group(0) @binding(4) var<storage, read_write> dc0: array<real>;
@group(0) @binding(5) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let b = group.y;
    let z = dims.layer * DIRECTIONS + group.z;
    let dst = z * dims.batch + order_of(b);
    let src = plane(group.z) * dims.batch + b;
    var own: real = 0.0;
    if unit < HIDDEN {
        var initial = STATE_INITIAL;
        var part = dst * CELL_SIZE + unit;
        for (var s = 0u; s < STATE_COUNT; s++) {
            var v = d_state[(src * STATE_COUNT + s) * HIDDEN + unit];
            if RESET_INITIAL {
                v += d_state[((dims.planes * dims.batch + src) * STATE_COUNT + s) * HIDDEN + unit];
            }
            if initial[s] == FROM_CELL {
                dc0[part] = v;
                part += HIDDEN;
            } else if initial[s] == FROM_HIDDEN {
                own = v;
            }
        }
    }
    if unit < OUTPUT {
        var d = d_hidden[src * OUTPUT + unit];
        if RESET_INITIAL {
            d += d_hidden[(dims.planes * dims.batch + src) * OUTPUT + unit];
        }
        dh0[dst * OUTPUT + unit] = d + own;
    }
}
