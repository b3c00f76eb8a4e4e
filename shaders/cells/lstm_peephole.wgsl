// LSTM with peepholes, gates i, f, g, o: equations in src/cells/lstm_peephole.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let i = activate(ACT_0, fma(unit[0], state[0], pre[0]));
    let f = activate(ACT_0, fma(unit[1], state[0], pre[1]));
    let g = activate(ACT_1, pre[2]);
    let c = fma(f, state[0], i * g);
    let o = activate(ACT_0, fma(unit[2], c, pre[3]));
    return Forward(array<real, STATES>(c), o * activate(ACT_2, c));
}
