// Memory::Recompute: what a layer keeps of all T steps. Per direction the rows before the first step, then one row after every
// (step, sequence), packed. A row holds the states that start from c0 [H each] and h [P]: KEPT values.

// Row that holds what sequence b had before the segment's first step.
fn kept_before(direction: u32, b: u32) -> u32 {
    var row = b;
    if dims.segment > 0u {
        row = dims.batch + row_offset(dims.segment - 1u) + b;
    }
    return direction * (dims.batch + dims.time * dims.batch) + row;
}

// Row that holds what packed row r is after its step.
fn kept_after(direction: u32, r: u32) -> u32 {
    return direction * (dims.batch + dims.time * dims.batch) + dims.batch + r;
}
