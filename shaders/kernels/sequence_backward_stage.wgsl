// One stage of one step backwards, for sequence `slot` of the workgroup's tile.
fn stage_STAGE(direction: u32, s: u32, b: u32, slot: u32, unit: u32, through: real) {
    if unit < UNITS_STAGE {
        let row = pre_row(direction, row_offset(s) + b);
        let d_out = out_gradient_STAGE(direction, s, b, unit, through, own_factors[slot]);
        var memory: array<real, STATES>;
        for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
            memory[i] = history[history_before(direction, s, b) * HISTORY + i * HIDDEN + unit];
        }
        if ZONEOUT {
            use_zone(direction, s, b, unit);
        }
        memory = states_before_STAGE(direction, row, unit, memory);
        let own = cell_params_STAGE(unit_params_STAGE(direction, unit));
        let d = backward_STAGE(read_gates_STAGE(direction, row, unit), memory, own, d_out, d_memory[slot]);
        var d_gates = d.pre;
        for (var g = 0u; g < PRE_STAGE; g++) {
            pre[gate_at_STAGE(row, g, unit)] = d_gates[g];
        }
        if STATE_COUNT_STAGE > 0u {
            d_memory[slot] = d.state;
        }
        if FIRST_STAGE && is_reset(direction, row_offset(s) + b) {
            // What goes back from here belongs to what the episode began from, not to the step before.
            for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
                d_initial[slot][i] += d_memory[slot][i];
                d_memory[slot][i] = 0.0;
            }
        }
        var d_own = d.unit;
        for (var i = 0u; i < UNIT_COUNT_STAGE; i++) {
            d_params[slot][i] += d_own[i];
        }
    }
}
