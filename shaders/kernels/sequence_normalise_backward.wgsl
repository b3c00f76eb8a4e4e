// One normalising stage of one step backwards, for sequence `slot` of the workgroup's tile: as kernels/sequence_backward_stage.wgsl, then the
// adjoints of the row statistics of its W x and of its product (kernels/step_normalise_backward.wgsl), in registers.
fn stage_STAGE(direction: u32, s: u32, b: u32, slot: u32, unit: u32, through: real) {
    let row = pre_row(direction, row_offset(s) + b);
    var kept: array<real, PRE_STAGE>;
    var d: array<real, PRE_STAGE>;
    var sum = vec4<real>();
    if unit < UNITS_STAGE {
        let d_out = out_gradient_STAGE(direction, s, b, unit, through, own_factors[slot]);
        var memory: array<real, STATES>;
        for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
            memory[i] = history[history_before(direction, s, b) * HISTORY + i * HIDDEN + unit];
        }
        if ZONEOUT {
            use_zone(direction, s, b, unit);
        }
        memory = states_before_STAGE(direction, row, unit, memory);
        var params = unit_params_STAGE(direction, unit);
        kept = read_kept_STAGE(row, unit);
        let back = backward_STAGE(scaled_STAGE(kept, params), memory, cell_params_STAGE(params), d_out, d_memory[slot]);
        d = back.pre;
        for (var g = 0u; g < PRE_STAGE; g++) {
            d_params[slot][SUMS_AT_STAGE + g] += d[g] * kept[g];
            d_params[slot][SUMS_AT_STAGE + PRE_STAGE + g] += d[g];
            d[g] *= params[ONLY_STAGE + g];
            let terms = vec2<real>(d[g], d[g] * kept[g]);
            sum += select(vec4<real>(0.0, 0.0, terms), vec4<real>(terms, 0.0, 0.0), g < INPUT_STAGE);
        }
        if STATE_COUNT_STAGE > 0u {
            d_memory[slot] = back.state;
        }
        if FIRST_STAGE && is_reset(direction, row_offset(s) + b) {
            // What goes back from here belongs to what the episode began from, not to the step before.
            for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
                d_initial[slot][i] += d_memory[slot][i];
                d_memory[slot][i] = 0.0;
            }
        }
        var d_own = back.unit;
        for (var i = 0u; i < UNIT_COUNT_STAGE; i++) {
            d_params[slot][i] += d_own[i];
        }
    }
    let columns = vec2<real>(real(max(INPUT_STAGE, 1u) * UNITS_STAGE), real(RECURRENT_STAGE * UNITS_STAGE));
    let mean = workgroup_sum(unit, sum) / columns.xxyy;
    if unit < UNITS_STAGE {
        for (var g = 0u; g < INPUT_STAGE; g++) {
            let scale = pre[row * ROW_WIDTH + INPUT_SCALE_AT_STAGE];
            pre[gate_at_STAGE(row, g, unit)] = (d[g] - mean.x - kept[g] * mean.y) * scale;
        }
        for (var g = INPUT_STAGE; g < PRE_STAGE; g++) {
            let scale = pre[row * ROW_WIDTH + SCALE_AT_STAGE];
            pre[gate_at_STAGE(row, g, unit)] = (d[g] - mean.z - kept[g] * mean.w) * scale;
        }
    }
}
