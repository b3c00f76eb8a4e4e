// What every kernel knows about the run: `Dims` (one block per layer and stretch of steps, written once per session) and
// the schedule buffer (written whenever the lengths change).
//
// Sequences are sorted by falling length, so those still running at step s are a prefix. A step s means time s of the
// forward direction and time length - 1 - s of the reverse one. Rows of `pre` are packed: only real (step, sequence) pairs.

struct Dims {
    batch: u32,
    // T, for the position of the tables behind it.
    time: u32,
    layer: u32,
    // Steps [first, end) of this block.
    first: u32,
    end: u32,
    // Rows of `pre` per direction.
    pre_rows: u32,
    // Features of this layer's input.
    input_size: u32,
    // 1 where the last hidden state alternates between two operand buffers (strategy Step), else 0.
    alternating: u32,
}

// schedule = order[B], length[B], row_offset[T + 1], row[D][T * B], and in training packed[D][T * B]

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

// Packed row of a row of x and y; NO_ROW past a sequence's end. Training only.
const NO_ROW: u32 = 0xffffffffu;
fn packed_row(direction: u32, outer: u32) -> u32 {
    return schedule[2u * dims.batch + dims.time + 1u + (DIRECTIONS + direction) * dims.time * dims.batch + outer];
}

// Row of x and y (in the caller's layout) of packed row r.
fn outer_row(direction: u32, r: u32) -> u32 {
    return schedule[2u * dims.batch + dims.time + 1u + direction * dims.time * dims.batch + r];
}
