// The functions of expressions (src/expr.rs) that are more exact than those of lib/math.wgsl, which stands before this: finite and
// accurate for any argument on any driver, and not by differences that a compiler may cancel.

// (e^x − 1) / x by Taylor's series, for |x| < 0.6: its next term is 3e-10.
fn expr_series(x: f32) -> f32 {
    var p = fma(x, 1.0 / 3628800.0, 1.0 / 362880.0);
    p = fma(x, p, 1.0 / 40320.0);
    p = fma(x, p, 1.0 / 5040.0);
    p = fma(x, p, 1.0 / 720.0);
    p = fma(x, p, 1.0 / 120.0);
    p = fma(x, p, 1.0 / 24.0);
    p = fma(x, p, 1.0 / 6.0);
    p = fma(x, p, 0.5);
    return fma(x, p, 1.0);
}

// The last digit counts near 1: a decay's error comes back as many times as steps are remembered, and WGSL allows exp four units
// of it there.
fn expr_exp(x: f32) -> f32 {
    return select(exp(x), fma(x, expr_series(x), 1.0), abs(x) < 0.6);
}

// e^x − 1 would cancel near 0.
fn expr_exp_m1(x: f32) -> f32 {
    return select(exp(x) - 1.0, x * expr_series(x), abs(x) < 0.6);
}

fn expr_sigmoid(x: f32) -> f32 {
    // e^−|x| never overflows; below, e / (1 + e) keeps the digits of small gates.
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

// max(x, 0) + log(1 + e), e = e^−|x|; log(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3: no 1 + e that loses e.
fn expr_softplus(x: f32) -> f32 {
    let e = exp(-abs(x));
    let s = e / (2.0 + e);
    let z = s * s;
    var p = fma(z, 1.0 / 17.0, 1.0 / 15.0);
    p = fma(z, p, 1.0 / 13.0);
    p = fma(z, p, 1.0 / 11.0);
    p = fma(z, p, 1.0 / 9.0);
    p = fma(z, p, 1.0 / 7.0);
    p = fma(z, p, 0.2);
    p = fma(z, p, 1.0 / 3.0);
    p = fma(z, p, 1.0);
    return max(x, 0.0) + 2.0 * s * p;
}

fn expr_step(x: f32) -> f32 {
    return select(0.0, 1.0, x > 0.0);
}
