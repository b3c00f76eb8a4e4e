// fold: adds up what several columns (and rows) contribute to one: the adjoint of an operand that repeats its source's columns.
//
// Contributions are [rows, width · repeat · each]; column c of the operand is column c / (inner · repeat) · inner + c % inner of
// the source, and has `each` neighbouring contributions. With `scatter` every row (a step from `first` on, and a sequence) gives its
// own row of the gradient something; else blocks of rows give a row each. `mask`: rows past a sequence's end hold nothing. Fixed
// order: rows, then columns, then neighbours.
//
// Parallel over (row or block of rows, source column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let column = item % at_width();
    let block = item / at_width();
    var row = block;
    if at_scatter() != 0u {
        let b = block % at_batch();
        let s = at_first() + block / at_batch();
        if s >= length_of(b) {
            return;
        }
        row = row_of(b, s, at_reverse() != 0u);
    }
    let start = column / at_inner() * at_inner() * at_repeat() + column % at_inner();
    let stride = at_width() * at_repeat() * at_each();
    let end = min((block + 1u) * at_block(), at_rows());
    var sum = 0.0;
    for (var r = block * at_block(); r < end; r++) {
        if at_mask() != 0u && at_first() + r / at_batch() >= length_of(r % at_batch()) {
            continue;
        }
        for (var n = 0u; n < at_repeat(); n++) {
            let first = at_source() + r * stride + (start + n * at_inner()) * at_each();
            for (var e = 0u; e < at_each(); e++) {
                sum += arena[first + e];
            }
        }
    }
    let place = at_to() + row * at_stride() + column;
    if at_add() != 0u {
        sum += arena[place];
    }
    arena[place] = sum;
}
