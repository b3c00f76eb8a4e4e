// LSTM with layer normalisation, x and h parts of i, f, g, o, then c': equations in src/cells/lstm_layer_norm.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let i = act_0(pre[0] + pre[4]);
    let f = forget_gate(i, pre[1] + pre[5]);
    let c = clip_cell(fma(f, state[0], i * act_1(pre[2] + pre[6])));
    return Forward(array<real, STATES>(c, act_0(pre[3] + pre[7])), c);
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let i = act_0(pre[0] + pre[4]);
    let f = forget_gate(i, pre[1] + pre[5]);
    let g = act_1(pre[2] + pre[6]);
    let d_c = clip_cell_back(fma(f, state[0], i * g), d_out + d_state[0]);
    let d_i = d_c * input_effect(g, state[0]) * slope_0(pre[0] + pre[4]);
    let d_f = d_c * state[0] * forget_slope(pre[1] + pre[5]);
    let d_g = d_c * i * slope_1(pre[2] + pre[6]);
    let d_o = d_state[1] * slope_0(pre[3] + pre[7]);
    let d_pre = array<real, PRE_0>(d_i, d_f, d_g, d_o, d_i, d_f, d_g, d_o);
    return Backward_0(d_pre, array<real, STATES>(d_c * f, 0.0), array<real, UNIT_0>());
}

fn forward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>) -> Forward {
    return Forward(state, state[1] * act_2(pre[0] + unit[0]));
}

fn backward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>, d_out: real, d_state: array<real, STATES>) -> Backward_1 {
    let v = pre[0] + unit[0];
    let d_v = d_out * state[1] * slope_2(v);
    let d_o = fma(d_out, act_2(v), d_state[1]);
    return Backward_1(array<real, PRE_1>(d_v), array<real, STATES>(d_state[0], d_o), array<real, UNIT_1>(d_v));
}
