// LSTM, gates i, f, g, o: equations in src/cells/lstm.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let i = act_0(pre[0]);
    let f = forget_gate(i, pre[1]);
    let g = act_1(pre[2]);
    let o = act_0(pre[3]);
    let c = clip_cell(fma(f, state[0], i * g));
    return Forward(array<real, STATES>(c), o * act_2(c));
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let i = act_0(pre[0]);
    let f = forget_gate(i, pre[1]);
    let g = act_1(pre[2]);
    let o = act_0(pre[3]);
    let unclipped = fma(f, state[0], i * g);
    let c = clip_cell(unclipped);
    let t = act_2(c);
    let d_c = clip_cell_back(unclipped, fma(d_out * o, slope_2(c), d_state[0]));
    let d_i = d_c * input_effect(g, state[0]) * slope_0(pre[0]);
    let d_f = d_c * state[0] * forget_slope(pre[1]);
    let d_g = d_c * i * slope_1(pre[2]);
    let d_o = d_out * t * slope_0(pre[3]);
    return Backward_0(array<real, PRE_0>(d_i, d_f, d_g, d_o), array<real, STATES>(d_c * f), unit);
}
