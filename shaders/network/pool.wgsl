// pool: one row per sequence of the rows of its steps. What its kernels share.
//
// KIND: 0 the last step, 1 the first, 2 the mean, 3 the largest of every column.

fn value_of(t: u32, b: u32, c: u32) -> f32 {
    return arena[at_x() + (t * at_batch() + b) * X_STRIDE + c];
}

// The step whose value is the pooled one, of a sequence of at least one step: the first of the largest.
fn step_of(b: u32, c: u32) -> u32 {
    if KIND == 1u {
        return 0u;
    }
    if KIND == 0u {
        return length_of(b) - 1u;
    }
    var at = 0u;
    var largest = value_of(0u, b, c);
    for (var t = 1u; t < length_of(b); t++) {
        let value = value_of(t, b, c);
        if value > largest {
            largest = value;
            at = t;
        }
    }
    return at;
}
