// One value per word.
fn word(i: u32) -> u32 {
    return bitcast<u32>(element(table[i]));
}
