// The nearest binary16, ties to even, in the low half. By integers: pack2x16float may round either way.
fn round_half(value: real) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if size > 0x7f800000u {
        return sign | 0x7e00u;
    }
    // From 65520 on, halfway to what would be the next number.
    if size >= 0x477ff000u {
        return sign | 0x7c00u;
    }
    // From 2^-14 on: the exponent's bias is 15, not 127, and 13 bits go.
    if size >= 0x38800000u {
        return sign | ((size + 0xfffu + ((size >> 13u) & 1u) - 0x38000000u) >> 13u);
    }
    // Subnormal: so many times 2^-24.
    let shift = 126u - (size >> 23u);
    if shift > 24u {
        return sign;
    }
    let digits = (size & 0x7fffffu) | 0x800000u;
    let kept = digits >> shift;
    let rest = digits & ((1u << shift) - 1u);
    let middle = 1u << (shift - 1u);
    return sign | (kept + select(0u, 1u, rest > middle || rest == middle && (kept & 1u) == 1u));
}
