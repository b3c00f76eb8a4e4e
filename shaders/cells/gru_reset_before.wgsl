// GRU, reset before the product, gates r, z | n; states h, z: equations in src/cells/gru_reset_before.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let r = activate(ACT_0, pre[0]);
    let z = activate(ACT_0, pre[1]);
    return Forward(array<real, STATES>(state[0], z), r * state[0]);
}

fn forward_1(pre: array<real, PRE_1>, state: array<real, STATES>, unit: array<real, UNIT_1>) -> Forward {
    let n = activate(ACT_1, pre[0]);
    let h = fma(state[1], state[0] - n, n);
    return Forward(array<real, STATES>(h, state[1]), h);
}
