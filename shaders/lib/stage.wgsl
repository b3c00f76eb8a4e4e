// The parts of a stage that every recurrent kernel shares; instantiated once per stage (`_STAGE` becomes `_0`, `_1`, …).
//
// Packed weights of a (layer, direction), stage after stage, read by lib/weights_*.wgsl:
//   R      [K/4][recurrent gate][unit]: four k of one gate and unit (with heads, K/n: those that the unit sees)
//   params [ceil(params / 4)][unit]:    recurrent-only biases; of a normalising stage the gains of all gates and the biases of
//                                       the x gates; the cell's own; the scales of R's rows

// Unit parameters of one unit.
fn unit_params_STAGE(direction: u32, unit: u32) -> array<real, PARAMS_STAGE> {
    var p: array<real, PARAMS_STAGE>;
    let at = weights_plane(direction) * LAYER_WEIGHTS + PARAMS_AT_STAGE;
    for (var i = 0u; i < PARAM_COUNT_STAGE; i++) {
        p[i] = exact(at, (i / 4u) * UNITS_STAGE + unit, i % 4u);
    }
    return p;
}

// Where gate g of a unit lies in a row of `pre`: x gates of all stages first, then operand-only gates of all stages.
fn gate_at_STAGE(row: u32, g: u32, unit: u32) -> u32 {
    let column = select(ONLY_AT_STAGE + (g - INPUT_STAGE) * UNITS_STAGE, PRE_AT_STAGE + g * UNITS_STAGE, g < INPUT_STAGE);
    return row * ROW_WIDTH + column + unit;
}

// Gates from what a row of `pre` keeps of them: of a normalising stage that is before gains and biases.
fn scaled_STAGE(kept: array<real, PRE_STAGE>, params: array<real, PARAMS_STAGE>) -> array<real, PRE_STAGE> {
    var gates = kept;
    if NORMALISE_STAGE {
        var p = params;
        for (var g = 0u; g < INPUT_STAGE; g++) {
            gates[g] = fma(gates[g], p[ONLY_STAGE + g], p[ONLY_STAGE + PRE_STAGE + g]);
        }
        for (var g = INPUT_STAGE; g < PRE_STAGE; g++) {
            gates[g] = fma(gates[g], p[ONLY_STAGE + g], p[g - INPUT_STAGE]);
        }
    }
    return gates;
}

// x part + recurrent part + recurrent-only biases, in the cell's gate order. `row` is the row of `pre`; of a normalising stage the
// x parts there and the product are normalised already, and no gate has both.
fn gates_STAGE(product: array<real, RECURRENT_STAGE>, row: u32, unit: u32, params: array<real, PARAMS_STAGE>) -> array<real, PRE_STAGE> {
    var recurrent = product;
    var p = params;
    var gates: array<real, PRE_STAGE>;
    for (var g = 0u; g < INPUT_STAGE; g++) {
        gates[g] = real(pre[gate_at_STAGE(row, g, unit)]);
    }
    if NORMALISE_STAGE {
        for (var g = INPUT_STAGE; g < PRE_STAGE; g++) {
            gates[g] = recurrent[g - INPUT_STAGE];
            if TRAIN {
                keep_gate(gate_at_STAGE(row, g, unit), gates[g]);
            }
        }
        return scaled_STAGE(gates, params);
    }
    for (var g = 0u; g < BOTH_STAGE; g++) {
        gates[g] += recurrent[g];
    }
    for (var g = 0u; g < ONLY_STAGE; g++) {
        gates[INPUT_STAGE + g] = recurrent[BOTH_STAGE + g] + p[g];
    }
    if TRAIN {
        for (var g = 0u; g < PRE_STAGE; g++) {
            keep_gate(gate_at_STAGE(row, g, unit), gates[g]);
        }
    }
    return gates;
}

// Keeps what a unit is after the stage: operands between stages, and after the last one its states and h.
fn keep_stage_STAGE(direction: u32, s: u32, b: u32, unit: u32, memory: array<real, STATES>, out: real) {
    if !TRAIN {
        return;
    }
    if LAST_STAGE {
        keep(direction, s, b, STATE_COUNT * HIDDEN + unit, out);
    } else {
        keep(direction, s, b, LINK_AT_STAGE + unit, out);
    }
    var m = memory;
    for (var i = 0u; i < STATE_COUNT_STAGE; i++) {
        keep(direction, s, b, i * HIDDEN + unit, m[i]);
    }
}

// The cell's own parameters, without biases and gains.
fn cell_params_STAGE(params: array<real, PARAMS_STAGE>) -> array<real, UNIT_STAGE> {
    var p = params;
    var own: array<real, UNIT_STAGE>;
    for (var i = 0u; i < UNIT_COUNT_STAGE; i++) {
        own[i] = p[PARAM_COUNT_STAGE - UNIT_COUNT_STAGE + i];
    }
    return own;
}
