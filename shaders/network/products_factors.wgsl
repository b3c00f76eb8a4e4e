// products_factors: the coefficients of every step of a window of chunks, evaluated once. A new episode's first step lets nothing
// through from before it.
//
// Parallel over (block, step, key index).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let n = item % KEY;
    let i = item / KEY % CHUNK;
    let block = item / (KEY * CHUNK);
    let p = block_of(block);
    let inside = i < p.end - p.first;
    var c = Coefficients(1.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    var row = 0u;
    if inside {
        let t = step_of(p, i);
        row = row_of(p.b, t, at_reverse() != 0u);
        c = coefficients(row, p.h, n, head_values(row, p.h));
        if is_reset(p.b, t, at_reverse() != 0u) {
            c.d = 0.0;
            c.a = 0.0;
            if BEFORE {
                c.q = 0.0;
            }
        }
    }
    arena[at_decays() + item] = c.d;
    arena[at_reads() + item] = select(c.q, c.k, BACK);
    arena[at_writes() + item] = select(c.k, c.q, BACK);
    if ERASE {
        arena[at_crossing() + item] = select(c.a, c.b, BACK);
        arena[at_corrects() + item] = select(c.b, c.a, BACK);
    }
    for (var j = n; j < COLUMNS; j += KEY) {
        var v = 0.0;
        if inside {
            if BACK {
                v = arena[at_dy() + (row * HEADS + p.h) * COLUMNS + j];
            } else {
                v = column_value(row, p.h, j);
            }
        }
        arena[at_values() + values_at(block, i) + j] = v;
    }
}
