// LSTM with peepholes, gates i, f, g, o: equations in src/cells/lstm_peephole.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let i = act_0(fma(unit[0], state[0], pre[0]));
    let f = forget_gate(i, fma(unit[1], state[0], pre[1]));
    let g = act_1(pre[2]);
    let c = clip_cell(fma(f, state[0], i * g));
    let o = act_0(fma(unit[2], c, pre[3]));
    return Forward(array<real, STATES>(c), o * act_2(c));
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let a_i = fma(unit[0], state[0], pre[0]);
    let a_f = fma(unit[1], state[0], pre[1]);
    let i = act_0(a_i);
    let f = forget_gate(i, a_f);
    let g = act_1(pre[2]);
    let unclipped = fma(f, state[0], i * g);
    let c = clip_cell(unclipped);
    let a_o = fma(unit[2], c, pre[3]);
    let o = act_0(a_o);
    let t = act_2(c);
    let d_o = d_out * t * slope_0(a_o);
    let d_c = clip_cell_back(unclipped, fma(d_out * o, slope_2(c), fma(d_o, unit[2], d_state[0])));
    let d_i = d_c * input_effect(g, state[0]) * slope_0(a_i);
    let d_f = d_c * state[0] * forget_slope(a_f);
    let d_g = d_c * i * slope_1(pre[2]);
    let d_before = fma(d_i, unit[0], fma(d_f, unit[1], d_c * f));
    let d_unit = array<real, UNIT_0>(d_i * state[0], d_f * state[0], d_o * c);
    return Backward_0(array<real, PRE_0>(d_i, d_f, d_g, d_o), array<real, STATES>(d_before), d_unit);
}
