// Elementwise functions. With lib/expr.wgsl the only place that evaluates exp or tanh: both must stay finite and accurate for any argument on
// any driver (WGSL's own tanh may give NaN for large arguments). Cells call the generated `act_0`, `slope_0`, … (src/kernels/
// functions.rs): these here may swallow NaN.

// 1 / (1 + exp(-x)). exp overflows to infinity below -88, and 1 / inf = 0 is right, but a driver may assume finite
// arithmetic: clamp first.
fn sigmoid(x: real) -> real {
    return 1.0 / (1.0 + exp(clamp(-x, -80.0, 80.0)));
}

// exp(x) where x is at most 0 (or NaN): it cannot overflow. For the softmax, whose largest argument is taken out first.
fn exp_of_negative(x: real) -> real {
    return exp(x);
}

// exp(x), at most exp(80) and at least exp(-80); NaN for NaN.
fn safe_exp(x: real) -> real {
    return nan_or(x, exp(clamp(x, -80.0, 80.0)));
}

// A rational approximation (numerator of degree 13, denominator of degree 6, odd), |error| < 3e-7; saturates exactly. The same
// coefficients as `Lanes::tanh` on the CPU.
fn safe_tanh(x: real) -> real {
    let v = clamp(x, -7.90531110763549805, 7.90531110763549805);
    let s = v * v;
    var p = fma(s, -2.76076847742355e-16, 2.00018790482477e-13);
    p = fma(s, p, -8.60467152213735e-11);
    p = fma(s, p, 5.12229709037114e-08);
    p = fma(s, p, 1.48572235717979e-05);
    p = fma(s, p, 6.37261928875436e-04);
    p = fma(s, p, 4.89352455891786e-03);
    var q = fma(s, 1.19825839466702e-06, 1.18534705686654e-04);
    q = fma(s, q, 2.26843463243900e-03);
    q = fma(s, q, 4.89352518554385e-03);
    return v * p / q;
}

fn relu(x: real) -> real {
    return max(x, 0.0);
}

// NaN in, NaN out: clamp and max may give their other argument for NaN. Tested by bits, for a driver that assumes finite
// arithmetic folds `x != x` to false.
fn nan_or(x: real, value: real) -> real {
    return select(value, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}

// The derivative of sigmoid: e / (1 + e)^2 with e = exp(-|x|), since y * (1 - y) cancels where the gate saturates.
fn sigmoid_slope(x: real) -> real {
    let e = exp(-min(abs(x), 80.0));
    return e / ((1.0 + e) * (1.0 + e));
}

// d where |x| is at most the limit, else 0: the adjoint of clamp(x, -limit, limit).
fn within(x: real, limit: real, d: real) -> real {
    return select(0.0, d, abs(x) <= limit);
}

fn safe_tanh_slope(x: real) -> real {
    return 4.0 * sigmoid_slope(x + x);
}

// 0 at 0.
fn relu_slope(x: real) -> real {
    return select(0.0, 1.0, x > 0.0);
}
