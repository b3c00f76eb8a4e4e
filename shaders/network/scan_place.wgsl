// A column of a span of steps: a stretch of a sequence, or a chunk.
struct Place {
    j: u32,
    h: u32,
    b: u32,
    span: u32,
    length: u32,
    first: u32,
    end: u32,
}

fn place_of(item: u32) -> Place {
    let columns = select(COLUMNS, COLUMNS + VIRTUAL, PASS == SUMMARY);
    let j = item % columns;
    let h = item / columns % HEADS;
    let b = item / (columns * HEADS) % at_batch();
    let span = at_stretch() + item / (columns * HEADS * at_batch());
    let length = length_of(b);
    return Place(j, h, b, span, length, min(span * at_span(), length), min((span + 1u) * at_span(), length));
}
