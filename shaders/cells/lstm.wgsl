// LSTM, gates i, f, g, o: equations in src/cells/lstm.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let i = activate(ACT_0, pre[0]);
    let f = activate(ACT_0, pre[1]);
    let g = activate(ACT_1, pre[2]);
    let o = activate(ACT_0, pre[3]);
    let c = fma(f, state[0], i * g);
    return Forward(array<real, STATES>(c), o * activate(ACT_2, c));
}
