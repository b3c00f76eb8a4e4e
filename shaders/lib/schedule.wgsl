// The schedule buffer, written whenever the lengths change.
//
// Sequences are sorted by falling length, so those still running at step s are a prefix. A step s means time s of the
// forward direction and time length - 1 - s of the reverse one. Rows of `pre` are packed: only real (step, sequence) pairs.

// Row of `pre` of packed row r.
fn pre_row(direction: u32, r: u32) -> u32 {
    return direction * dims.pre_rows + r - row_offset(dims.segment);
}

// schedule = order[B], length[B], row_offset[T + 1], row[D][T * B], and with Options::resets reset[D][T * B]

// The caller's index of sorted sequence b.
fn order_of(b: u32) -> u32 {
    return schedule[b];
}

fn length_of(b: u32) -> u32 {
    return schedule[dims.batch + b];
}

// Packed row of (step s, sequence 0).
fn row_offset(s: u32) -> u32 {
    return schedule[2u * dims.batch + s];
}

// Sequences still running at step s.
fn active_at(s: u32) -> u32 {
    return row_offset(s + 1u) - row_offset(s);
}

// Row of x and y (in the caller's layout) of packed row r.
fn outer_row(direction: u32, r: u32) -> u32 {
    return schedule[2u * dims.batch + dims.time + 1u + direction * dims.time * dims.batch + r];
}

// Whether a new episode begins at packed row r: its sequence's state before that step is set anew.
fn is_reset(direction: u32, r: u32) -> bool {
    if !RESETS {
        return false;
    }
    let rows = dims.time * dims.batch;
    return schedule[2u * dims.batch + dims.time + 1u + (DIRECTIONS + direction) * rows + r] != 0u;
}
