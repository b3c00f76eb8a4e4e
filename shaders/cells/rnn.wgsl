// Vanilla RNN: equations in src/cells/rnn.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    return Forward(state, act_0(pre[0]));
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let d = d_out * slope_0(pre[0]);
    return Backward_0(array<real, PRE_0>(d), d_state, unit);
}
