// GRU, reset before the product, gates r, z | n; states h, z: equations in src/cells/gru_reset_before.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let r = act_0(pre[0]);
    let z = act_0(pre[1]);
    return Forward(array<real, STATES>(state[0], z), r * state[0]);
}

fn forward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>) -> Forward {
    let n = act_1(pre[0]);
    let h = fma(state[1], state[0] - n, n);
    return Forward(array<real, STATES>(h, state[1]), h);
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let r = act_0(pre[0]);
    let z = act_0(pre[1]);
    let d_r = d_out * state[0] * slope_0(pre[0]);
    let d_z = d_state[1] * slope_0(pre[1]);
    return Backward_0(array<real, PRE_0>(d_r, d_z), array<real, STATES>(fma(d_out, r, d_state[0]), 0.0), unit);
}

fn backward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>, d_out: real, d_state: array<real, STATES>) -> Backward_1 {
    let n = act_1(pre[0]);
    let d_h = d_out + d_state[0];
    let d_n = (d_h - d_h * state[1]) * slope_1(pre[0]);
    let d_z = fma(d_h, state[0] - n, d_state[1]);
    return Backward_1(array<real, PRE_1>(d_n), array<real, STATES>(d_h * state[1], d_z), unit);
}
