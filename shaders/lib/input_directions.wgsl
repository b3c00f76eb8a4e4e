// Which directions a kernel that adds to the gradient of x goes through, one after the other: one of them (dims.direction), or, where
// the stretch is all of time, both (dims.direction = DIRECTIONS). A row of x is one invocation's, so its sum has one order.

fn first_direction() -> u32 {
    return select(dims.direction, 0u, dims.direction == DIRECTIONS);
}

fn end_direction() -> u32 {
    return min(dims.direction + 1u, DIRECTIONS);
}

// The packed row of a direction; of both the rows are the first one's, and the second one's is that with the same row of x: step s
// of one is step length - 1 - s of the other.
fn row_in(direction: u32, r: u32) -> u32 {
    if direction == first_direction() {
        return r;
    }
    let s = step_of(r);
    let b = r - row_offset(s);
    return row_offset(length_of(b) - 1u - s) + b;
}
