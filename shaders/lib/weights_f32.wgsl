// Weights in 32 bits: an entry is four of them, and so are four exact values.

alias Packed = vec4<real>;
const EXACT: u32 = 1u;
const SCALED: bool = false;

// Four weights.
fn weight4(at: u32) -> vec4<real> {
    return weights[at];
}

// Of the exact values that start at entry `base`, one of the n-th four.
fn exact(base: u32, n: u32, lane: u32) -> real {
    return weights[base + n][lane];
}
