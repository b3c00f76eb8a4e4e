// LSTM, gates i, f, g, o: equations in src/cells/lstm.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let i = activate(ACT_0, pre[0]);
    let f = activate(ACT_0, pre[1]);
    let g = activate(ACT_1, pre[2]);
    let o = activate(ACT_0, pre[3]);
    let c = fma(f, state[0], i * g);
    return Forward(array<real, STATES>(c), o * activate(ACT_2, c));
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let i = activate(ACT_0, pre[0]);
    let f = activate(ACT_0, pre[1]);
    let g = activate(ACT_1, pre[2]);
    let o = activate(ACT_0, pre[3]);
    let c = fma(f, state[0], i * g);
    let t = activate(ACT_2, c);
    let d_c = fma(d_out * o, slope(ACT_2, c), d_state[0]);
    let d_i = d_c * g * slope(ACT_0, pre[0]);
    let d_f = d_c * state[0] * slope(ACT_0, pre[1]);
    let d_g = d_c * i * slope(ACT_1, pre[2]);
    let d_o = d_out * t * slope(ACT_0, pre[3]);
    return Backward_0(array<real, PRE_0>(d_i, d_f, d_g, d_o), array<real, STATES>(d_c * f), unit);
}
