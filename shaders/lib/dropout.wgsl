// Masks of the run: which words they are made of is told in src/cpu/random.rs. Nothing is stored; whoever needs a mask computes
// it. The run's own words (key, and whether anything is dropped) are the last of the schedule's table.

fn run_word(i: u32) -> u32 {
    return schedule[arrayLength(&schedule) - RUN_WORDS + i];
}

// The words of features 4 * quad ..; `place` = layer * directions + direction, `sequence` is the caller's index.
fn mask_words(kind: u32, place: u32, sequence: u32, t: u32, quad: u32) -> vec4<u32> {
    return philox4x32_10(vec4<u32>(quad, t, sequence, (kind << 30u) | place), vec2<u32>(run_word(0u), run_word(1u)));
}

// What four values are multiplied by.
fn factors(words: vec4<u32>, threshold: u32, scale: real) -> vec4<real> {
    let kept = select(vec4<real>(scale), vec4<real>(), (words >> vec4<u32>(8u)) < vec4<u32>(threshold));
    return select(kept, vec4<real>(1.0), run_word(2u) == 0u);
}

// What the recurrent product of sorted sequence b multiplies a unit of h by.
fn recurrent_factor(place: u32, b: u32, unit: u32) -> real {
    let words = mask_words(MASK_RECURRENT, place, order_of(b), 0u, unit / 4u);
    return factors(words, RECURRENT_THRESHOLD, RECURRENT_SCALE)[unit % 4u];
}
