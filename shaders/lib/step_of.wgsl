// The step of packed row r, from `first` on.
fn step_of(r: u32) -> u32 {
    var low = dims.first;
    var high = dims.end;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if row_offset(middle) <= r {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
