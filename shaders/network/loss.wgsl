// loss: how far a row of x is from its target. What its kernels share.
//
// CLASSES: cross entropy, the target is a class; else the mean squared error. Rows of weight 0 may have any class.

fn weight_of(row: u32) -> f32 {
    if WEIGHTS {
        return arena[at_weights() + row * WEIGHT_STRIDE];
    }
    return 1.0;
}

fn x_of(row: u32, c: u32) -> f32 {
    return arena[at_x() + row * X_STRIDE + c];
}

fn target_of(row: u32, c: u32) -> f32 {
    return arena[at_targets() + row * TARGET_STRIDE + c];
}

fn class_of(row: u32) -> u32 {
    return min(u32(target_of(row, 0u)), WIDTH - 1u);
}

// The largest x of a row, which is taken out so that no exp overflows, and the sum of what is left.
fn exponents(row: u32) -> vec2<f32> {
    var largest = x_of(row, 0u);
    for (var c = 1u; c < WIDTH; c++) {
        largest = max(largest, x_of(row, c));
    }
    var sum = 0.0;
    for (var c = 0u; c < WIDTH; c++) {
        sum += expr_exp(x_of(row, c) - largest);
    }
    return vec2<f32>(largest, sum);
}
