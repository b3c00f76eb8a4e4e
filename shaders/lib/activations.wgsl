// The activations that few networks have, and their derivatives: ONNX's definitions. Part of a source only where the
// configuration has one of them. Like those of lib/math.wgsl they may swallow NaN.

fn affine(x: real, alpha: real, beta: real) -> real {
    return fma(alpha, x, beta);
}

fn affine_slope(x: real, alpha: real, beta: real) -> real {
    return alpha;
}

fn leaky_relu(x: real, alpha: real) -> real {
    return select(alpha * x, x, x >= 0.0);
}

fn leaky_relu_slope(x: real, alpha: real) -> real {
    return select(alpha, 1.0, x >= 0.0);
}

fn thresholded_relu(x: real, alpha: real) -> real {
    return select(0.0, x, x >= alpha);
}

fn thresholded_relu_slope(x: real, alpha: real) -> real {
    return select(0.0, 1.0, x >= alpha);
}

fn scaled_tanh(x: real, alpha: real, beta: real) -> real {
    return alpha * safe_tanh(beta * x);
}

fn scaled_tanh_slope(x: real, alpha: real, beta: real) -> real {
    return alpha * beta * safe_tanh_slope(beta * x);
}

fn hard_sigmoid(x: real, alpha: real, beta: real) -> real {
    return clamp(fma(alpha, x, beta), 0.0, 1.0);
}

// 0 at both ends.
fn hard_sigmoid_slope(x: real, alpha: real, beta: real) -> real {
    let y = fma(alpha, x, beta);
    return select(0.0, alpha, y > 0.0 && y < 1.0);
}

fn elu(x: real, alpha: real) -> real {
    return select(alpha * (exp_of_negative(min(x, 0.0)) - 1.0), x, x >= 0.0);
}

fn elu_slope(x: real, alpha: real) -> real {
    return select(alpha * exp_of_negative(min(x, 0.0)), 1.0, x >= 0.0);
}

// Beyond 1e30 it is 1, and a quotient of larger numbers need not be accurate.
fn softsign(x: real) -> real {
    let v = clamp(x, -1e30, 1e30);
    return v / (1.0 + abs(v));
}

fn softsign_slope(x: real) -> real {
    let share = 1.0 / (1.0 + min(abs(x), 1e30));
    return share * share;
}

// max(x, 0) + log(1 + e) with e = exp(-|x|): nothing overflows. log(1 + e) = 2 artanh(s) with s = e / (2 + e), at most 1/3:
// the odd series to s^15, as `Lanes::log_of_one_plus` on the CPU (WGSL's own log may be off by 2^-21 near 1).
fn softplus(x: real) -> real {
    let e = exp_of_negative(-min(abs(x), 80.0));
    let s = e / (2.0 + e);
    let square = s * s;
    var p: real = 2.0 / 15.0;
    p = fma(p, square, 2.0 / 13.0);
    p = fma(p, square, 2.0 / 11.0);
    p = fma(p, square, 2.0 / 9.0);
    p = fma(p, square, 2.0 / 7.0);
    p = fma(p, square, 2.0 / 5.0);
    p = fma(p, square, 2.0 / 3.0);
    p = fma(p, square, 2.0);
    return max(x, 0.0) + s * p;
}

fn softplus_slope(x: real) -> real {
    return sigmoid(x);
}
