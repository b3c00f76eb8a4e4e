// sLSTM, gates i, f, g, o, states c, n, m: equations in src/cells/slstm.rs.

// Of one step: the stabiliser m', the weights of the old (c, n) and of the new, and whether m' is log f + m (else log i).
struct Stabilised {
    m: real,
    before: real,
    here: real,
    keeps: bool,
}

fn stabilise(pre: array<real, PRE_0>, state: array<real, STATES>) -> Stabilised {
    let input = act_0(pre[0]);
    let kept = state[2] - act_1(-pre[1]);
    let keeps = kept >= input && abs(state[1]) > 0.0;
    // NaN in either is NaN in all.
    let m = nan_or(kept, nan_or(input, select(input, kept, keeps)));
    return Stabilised(m, safe_exp(kept - m), safe_exp(input - m), keeps);
}

fn forward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>) -> Forward {
    let s = stabilise(pre, state);
    let c = fma(s.before, state[0], s.here * act_2(pre[2]));
    let n = fma(s.before, state[1], s.here);
    return Forward(array<real, STATES>(c, n, s.m), act_3(pre[3]) * (c / n));
}

fn backward_0(pre: array<real, PRE_0>, state: array<real, STATES>, unit: array<real, UNIT_0>, d_out: real, d_state: array<real, STATES>) -> Backward_0 {
    let s = stabilise(pre, state);
    let g = act_2(pre[2]);
    let n = fma(s.before, state[1], s.here);
    let share = fma(s.before, state[0], s.here * g) / n;
    let d_share = d_out * act_3(pre[3]) / n;
    let d_c = d_state[0] + d_share;
    let d_n = d_state[1] - d_share * share;
    // Of the two exponents; m' is one of them, whose exponential is 1, and takes from both.
    let d_before = s.before * fma(d_c, state[0], d_n * state[1]);
    let d_here = s.here * fma(d_c, g, d_n);
    let d_kept = select(d_before, d_state[2] - d_here, s.keeps);
    let d_input = select(d_state[2] - d_before, d_here, s.keeps);
    let d_i = d_input * slope_0(pre[0]);
    let d_f = d_kept * slope_1(-pre[1]);
    let d_g = d_c * s.here * slope_2(pre[2]);
    let d_o = d_out * share * slope_3(pre[3]);
    let d_pre = array<real, PRE_0>(d_i, d_f, d_g, d_o);
    return Backward_0(d_pre, array<real, STATES>(d_c * s.before, d_n * s.before, d_kept), unit);
}
