// Where training keeps a segment's past: per direction the rows before its first step, then one row after every step.
// With Options::resets the rows that episodes begin from lie between the two. A row holds the unit states [S][H], h [P], and the operands between stages, one after the other: HISTORY values.

// First row of a direction.
fn history_rows(direction: u32) -> u32 {
    return plane(direction) * (HISTORY_HEADS * dims.batch + dims.pre_rows);
}

// Row that holds what sequence b had before the segment's first step, if it goes on there.
fn history_start(direction: u32, b: u32) -> u32 {
    return history_rows(direction) + b;
}

// Row that holds what an episode of sequence b begins from.
fn history_initial(direction: u32, b: u32) -> u32 {
    return history_rows(direction) + dims.batch + b;
}

// Row that holds what sequence b had before step s.
fn history_before(direction: u32, s: u32, b: u32) -> u32 {
    if is_reset(direction, row_offset(s) + b) {
        return history_initial(direction, b);
    }
    if s > dims.segment {
        return history_after(direction, s - 1u, b);
    }
    return history_start(direction, b);
}

// Row that holds what sequence b has after step s.
fn history_after(direction: u32, s: u32, b: u32) -> u32 {
    return history_rows(direction) + HISTORY_HEADS * dims.batch + row_offset(s) - row_offset(dims.segment) + b;
}
