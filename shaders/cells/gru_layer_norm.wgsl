// GRU with layer normalisation, reset after, x and h parts of r, z, n: equations in src/cells/gru_layer_norm.rs.

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let r = act_0(pre[0] + pre[3]);
    let z = act_0(pre[1] + pre[4]);
    let n = act_1(fma(r, pre[5], pre[2]));
    let h = fma(z, state[0] - n, n);
    return Forward(array<real, STATES>(h), h);
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let r = act_0(pre[0] + pre[3]);
    let z = act_0(pre[1] + pre[4]);
    let v_n = fma(r, pre[5], pre[2]);
    let n = act_1(v_n);
    let d_h = d_out + d_state[0];
    let d_n = (d_h - d_h * z) * slope_1(v_n);
    let d_r = d_n * pre[5] * slope_0(pre[0] + pre[3]);
    let d_z = d_h * (state[0] - n) * slope_0(pre[1] + pre[4]);
    return Backward_0(array<real, PRE_0>(d_r, d_z, d_n, d_r, d_z, d_n * r), array<real, STATES>(d_h * z), unit);
}
