// Weights in IEEE 754 binary16: an entry is four of them in two words; four exact values are two entries. A driver may take
// subnormal ones for 0.

alias Packed = vec2<u32>;
const EXACT: u32 = 2u;
const SCALED: bool = false;

// Four weights.
fn weight4(at: u32) -> vec4<real> {
    let w = weights[at];
    return vec4<real>(unpack2x16float(w.x), unpack2x16float(w.y));
}

// Of the exact values that start at entry `base`, one of the n-th four.
fn exact(base: u32, n: u32, lane: u32) -> real {
    return bitcast<real>(weights[base + 2u * n + lane / 2u][lane % 2u]);
}
