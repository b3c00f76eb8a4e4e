// What a norm takes off and multiplies by.

struct Statistics {
    mean: f32,
    inverse: f32,
    // Whether x is divided by a size of its own, not by ε.
    sized: bool,
}

fn statistics(x: u32) -> Statistics {
    var mean = 0.0;
    if KIND == LAYER {
        for (var c = 0u; c < SIZE; c++) {
            mean += arena[x + c];
        }
        mean /= f32(SIZE);
    }
    var square = 0.0;
    for (var c = 0u; c < SIZE; c++) {
        let v = arena[x + c] - mean;
        square = fma(v, v, square);
    }
    if KIND == L2 {
        let size = sqrt(square);
        return Statistics(0.0, 1.0 / max(size, EPSILON), size > EPSILON);
    }
    return Statistics(mean, 1.0 / sqrt(square / f32(SIZE) + EPSILON), true);
}
