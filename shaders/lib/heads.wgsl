// Which features of its operand a unit of stage _STAGE sees: those of its head. HEADS heads of HEAD_UNITS units each see
// HEAD_OPERAND features each; with one head all of this folds away.

// Its first feature.
fn head_start_STAGE(unit: u32) -> u32 {
    if HEADS_STAGE == 1u {
        return 0u;
    }
    return unit / HEAD_UNITS_STAGE * HEAD_OPERAND_STAGE;
}

// The k-th four features from `start` on; past the head's end its last one, for head_values to replace.
fn head_places_STAGE(start: u32, k: u32) -> vec4<u32> {
    return start + min(vec4<u32>(0u, 1u, 2u, 3u) + k * 4u, vec4<u32>(HEAD_OPERAND_STAGE - 1u));
}

// The values found there, 0 past the head's end (R is 0 there too, but 0 times infinity is not).
fn head_values_STAGE(k: u32, values: vec4<real>) -> vec4<real> {
    return select(vec4<real>(0.0), values, vec4<u32>(0u, 1u, 2u, 3u) + k * 4u < vec4<u32>(HEAD_OPERAND_STAGE));
}
