// Where things lie. Inference keeps one row of states per sequence and overwrites it; training keeps the states before the
// first step and after every step, and all rows of `pre`. z = layer * directions + direction.

fn state_rows() -> u32 {
    return select(dims.batch, dims.batch + dims.time * dims.batch, TRAIN);
}

// Row of the states that sequence b has before step s.
fn state_before(z: u32, s: u32, b: u32) -> u32 {
    var row = b;
    if TRAIN {
        if s > 0u {
            row = dims.batch + row_offset(s - 1u) + b;
        }
    }
    return z * state_rows() + row;
}

// Row of the states that sequence b has after step s.
fn state_after(z: u32, s: u32, b: u32) -> u32 {
    var row = b;
    if TRAIN {
        row = dims.batch + row_offset(s) + b;
    }
    return z * state_rows() + row;
}

// Row of `pre` of packed row r: rows of the block in inference, all rows in training.
fn pre_row(direction: u32, r: u32) -> u32 {
    var row = r;
    if !TRAIN {
        row = r - row_offset(dims.first);
    }
    return direction * dims.pre_rows + row;
}
