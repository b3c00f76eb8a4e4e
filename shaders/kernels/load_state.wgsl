// load_state: h0 and c0 into the operand (padded with 0 to a multiple of 4) and the units' own states, in sorted order.
// One invocation per (unit, sequence); z = layer * directions + direction.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> h0: array<real>;
@group(0) @binding(2) var<storage, read> c0: array<real>;
@group(0) @binding(3) var<storage, read_write> operand: array<real>;
@group(0) @binding(4) var<storage, read_write> state: array<real>;
@group(0) @binding(5) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let b = group.y;
    let src = group.z * dims.batch + order_of(b);
    let dst = group.z * dims.batch + b;
    // What later episodes begin from lies behind the states and operands of all sequences.
    let episode = LAYERS * DIRECTIONS * dims.batch;
    if unit < OUTPUT_PADDED {
        let h = select(0.0, h0[src * OUTPUT + min(unit, OUTPUT - 1u)], unit < OUTPUT);
        if RECURRENT_DROPOUT {
            operand[dst * OPERAND_ROW + unit] = h * recurrent_factor(group.z, b, unit);
        }
        operand[dst * OPERAND_ROW + OWN_AT + unit] = h;
        if RESETS {
            let start = select(0.0, h, RESET_INITIAL);
            if RECURRENT_DROPOUT {
                operand[(episode + dst) * OPERAND_ROW + unit] = start * recurrent_factor(group.z, b, unit);
            }
            operand[(episode + dst) * OPERAND_ROW + OWN_AT + unit] = start;
        }
    }
    if unit < HIDDEN {
        var initial = STATE_INITIAL;
        var part = src * CELL_SIZE + unit;
        for (var s = 0u; s < STATE_COUNT; s++) {
            var v: real = 0.0;
            if initial[s] == FROM_HIDDEN && unit < OUTPUT {
                v = h0[src * OUTPUT + unit];
            } else if initial[s] == FROM_CELL {
                v = c0[part];
                part += HIDDEN;
            }
            state[(dst * STATE_COUNT + s) * HIDDEN + unit] = v;
            if RESETS {
                state[((episode + dst) * STATE_COUNT + s) * HIDDEN + unit] = select(0.0, v, RESET_INITIAL);
            }
        }
    }
}
