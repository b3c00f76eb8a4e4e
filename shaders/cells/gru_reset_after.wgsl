// GRU, reset after the product, gates r, z, n, hn: equations in src/cells/gru_reset_after.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let r = activate(ACT_0, pre[0]);
    let z = activate(ACT_0, pre[1]);
    let n = activate(ACT_1, fma(r, pre[3], pre[2]));
    let h = fma(z, state[0] - n, n);
    return Forward(array<real, STATES>(h), h);
}
