// Weights in 8 bits, in units of their row's scale (an exact value of its own: the product of a row is multiplied by it): an
// entry is four of them in one word; four exact values are four entries.

alias Packed = u32;
const EXACT: u32 = 4u;
const SCALED: bool = true;

// Four weights.
fn weight4(at: u32) -> vec4<real> {
    let bytes = vec4<u32>(weights[at]) << vec4<u32>(24u, 16u, 8u, 0u);
    return vec4<real>(bitcast<vec4<i32>>(bytes) >> vec4<u32>(24u));
}

// Of the exact values that start at entry `base`, one of the n-th four.
fn exact(base: u32, n: u32, lane: u32) -> real {
    return bitcast<real>(weights[base + 4u * n + lane]);
}
