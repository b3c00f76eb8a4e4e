// The projection stage that proj_size appends to a cell; instantiated for its place in the chain. src/cells/projection.rs.

fn forward_STAGE(pre: array<real, PRE_STAGE>, state: array<real, STATES>, unit: array<real, UNIT_STAGE>) -> Forward {
    return Forward(state, pre[0]);
}

fn backward_STAGE(pre: array<real, PRE_STAGE>, state: array<real, STATES>, unit: array<real, UNIT_STAGE>, d_out: real, d_state: array<real, STATES>) -> Backward_STAGE {
    return Backward_STAGE(array<real, PRE_STAGE>(d_out), d_state, unit);
}
