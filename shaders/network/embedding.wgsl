// embedding: rows of a table by their numbers. What its kernels share.

// Past a sequence's end there may be anything: it must not lead out of the table.
fn id_of(row: u32) -> u32 {
    let number = arena[at_ids() + row * IDS_STRIDE];
    let known = number >= 0.0 && number < f32(VOCABULARY);
    return min(u32(select(0.0, number, known)), VOCABULARY - 1u);
}
