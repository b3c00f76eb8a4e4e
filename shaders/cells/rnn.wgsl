// Vanilla RNN: equations in src/cells/rnn.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    return Forward(state, activate(ACT_0, pre[0]));
}
