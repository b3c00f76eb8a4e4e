// fold: adds up what several columns (and rows) contribute to one: the adjoint of an operand that repeats its source's columns.
//
// Contributions are [rows, SOURCE · REPEAT · EACH]; column c of the operand is column c / (INNER · REPEAT) · INNER + c % INNER of
// the source, and has EACH neighbouring contributions. PER_ROW: every row (a step from `first` on, and a sequence) adds to its own
// row of a gradient; else blocks of rows give a row each. Fixed order: rows, then columns, then neighbours.
//
// Parallel over (row or block of rows, source column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let column = item % SOURCE;
    let block = item / SOURCE;
    let start = column / INNER * INNER * REPEAT + column % INNER;
    var sum = 0.0;
    let end = min((block + 1u) * at_block(), at_rows());
    for (var r = block * at_block(); r < end; r++) {
        if MASK && at_first() + r / at_batch() >= length_of(r % at_batch()) {
            continue;
        }
        for (var n = 0u; n < REPEAT; n++) {
            let c = (start + n * INNER) * EACH;
            for (var e = 0u; e < EACH; e++) {
                sum += arena[at_source() + r * (SOURCE * REPEAT * EACH) + c + e];
            }
        }
    }
    var row = block;
    if PER_ROW {
        let b = block % at_batch();
        let s = at_first() + block / at_batch();
        if s >= length_of(b) {
            return;
        }
        row = row_of(b, s, REVERSE);
    }
    let place = at_to() + row * at_stride() + column;
    if ADD {
        arena[place] += sum;
    } else {
        arena[place] = sum;
    }
}
