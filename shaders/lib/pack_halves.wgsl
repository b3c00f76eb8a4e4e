// Two values per word, each by lib/round_*.wgsl: the table has two entries for it; or a whole one, marked by the second entry.
const WHOLE: u32 = 0xfffffffeu;

fn word(i: u32) -> u32 {
    let low = element(table[2u * i]);
    let high = table[2u * i + 1u];
    if high == WHOLE {
        return bitcast<u32>(low);
    }
    return round_half(low) | (round_half(element(high)) << 16u);
}
