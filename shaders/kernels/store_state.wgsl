// store_state: each sequence's last h and c into hn and cn, in the caller's order. The last h of strategy Step lies in the
// operand buffer of its length's parity; Sequence has one buffer. One invocation per (unit, sequence);
// z = layer * directions + direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> operand_even: array<real>;
@group(0) @binding(2) var<storage, read> operand_odd: array<real>;
@group(0) @binding(3) var<storage, read> state: array<real>;
@group(0) @binding(4) var<storage, read_write> hn: array<real>;
@group(0) @binding(5) var<storage, read_write> cn: array<real>;
@group(0) @binding(6) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let b = group.y;
    let src = group.z * dims.batch + b;
    let dst = group.z * dims.batch + order_of(b);
    // Where its last step was even or odd: in a wave plan by the wave's count.
    let steps = length_of(b) + lag(group.z);
    if unit < OUTPUT {
        let at = src * OPERAND_ROW + OWN_AT + unit;
        if dims.alternating * (steps & 1u) == 1u {
            hn[dst * OUTPUT + unit] = operand_odd[at];
        } else {
            hn[dst * OUTPUT + unit] = operand_even[at];
        }
    }
    if unit < HIDDEN {
        var initial = STATE_INITIAL;
        var part = dst * CELL_SIZE + unit;
        for (var s = 0u; s < STATE_COUNT; s++) {
            if initial[s] == FROM_CELL {
                cn[part] = state[(src * STATE_COUNT + s) * HIDDEN + unit];
                part += HIDDEN;
            }
        }
    }
}
