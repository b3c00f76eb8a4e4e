// Weights as the upper halves of f32: an entry is four of them in two words; four exact values are two entries.

alias Packed = vec2<u32>;
const EXACT: u32 = 2u;
const SCALED: bool = false;

// Four weights.
fn weight4(at: u32) -> vec4<real> {
    let w = weights[at];
    return bitcast<vec4<real>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}

// Of the exact values that start at entry `base`, one of the n-th four.
fn exact(base: u32, n: u32, lane: u32) -> real {
    return bitcast<real>(weights[base + 2u * n + lane / 2u][lane % 2u]);
}
