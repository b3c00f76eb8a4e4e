// Where training keeps a segment's past: per direction the rows before its first step, then one row after every step.
// A row holds the unit states [S][H], h [P], and the operands between stages, one after the other: HISTORY values.

// Row that holds what sequence b had before step s.
fn history_before(direction: u32, s: u32, b: u32) -> u32 {
    var row = b;
    if s > dims.segment {
        row = dims.batch + row_offset(s - 1u) - row_offset(dims.segment) + b;
    }
    return direction * (dims.batch + dims.pre_rows) + row;
}

// Row that holds what sequence b has after step s.
fn history_after(direction: u32, s: u32, b: u32) -> u32 {
    return direction * (dims.batch + dims.pre_rows) + dims.batch + row_offset(s) - row_offset(dims.segment) + b;
}
