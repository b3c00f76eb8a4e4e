// The schedule buffer, written whenever the lengths change.
//
// Sequences are sorted by falling length, so those still running at step s are a prefix. A step s means time s of the
// forward direction and time length - 1 - s of the reverse one. Rows of `pre` are packed: only real (step, sequence) pairs.

// Row of `pre` of packed row r.
fn pre_row(direction: u32, r: u32) -> u32 {
    return plane(direction) * dims.pre_rows + r - row_offset(held_from(direction));
}

// The first step that `pre` holds: in inference each layer of a wave has its own.
fn held_from(direction: u32) -> u32 {
    if BACKWARD {
        return dims.segment;
    }
    return dims.segment - lag(direction);
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

// The same at a step that may lie past the last one, as that of a wave's layers may.
fn running_at(s: u32) -> u32 {
    if s >= dims.time {
        return 0u;
    }
    return active_at(s);
}

// Row of x and y (in the caller's layout) of packed row r.
fn outer_row(direction: u32, r: u32) -> u32 {
    return schedule[2u * dims.batch + dims.time + 1u + direction_of(direction) * dims.time * dims.batch + r];
}

// The same in the slot of the layer's input, or its gradient.
fn input_row(direction: u32, r: u32) -> u32 {
    return dims.input_rows + outer_row(direction, r);
}

// Where the direction's part of that row begins in the layer's y, or its gradient, in units of its width.
fn output_row(direction: u32, r: u32) -> u32 {
    let layers = (dims.plane + direction) / DIRECTIONS;
    return (layers * dims.time * dims.batch + outer_row(direction, r)) * DIRECTIONS + direction_of(direction);
}

// Whether a new episode begins at packed row r: its sequence's state before that step is set anew.
fn is_reset(direction: u32, r: u32) -> bool {
    if !RESETS {
        return false;
    }
    let rows = dims.time * dims.batch;
    return schedule[2u * dims.batch + dims.time + 1u + (DIRECTIONS + direction_of(direction)) * rows + r] != 0u;
}
