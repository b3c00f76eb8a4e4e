// products_factors: the coefficients of every step of a window of chunks, evaluated once. A new episode's first step lets nothing
// through from before it.
//
// Parallel over (block, step, key index or column).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let n = item % WIDTH;
    let i = item / WIDTH % at_chunk();
    let block = item / (WIDTH * at_chunk());
    let p = block_of(block);
    let inside = i < p.end - p.first;
    var t = 0u;
    var row = 0u;
    if inside {
        t = step_of(p, i);
        row = row_of(p.b, t, at_reverse() != 0u);
    }
    if n < COLUMNS {
        var v = 0.0;
        if inside && BACK {
            v = arena[at_dy() + (row * HEADS + p.h) * COLUMNS + n];
        } else if inside {
            v = column_value(row, p.h, n);
        }
        arena[at_values() + values_at(block, i) + n] = v;
    }
    if n >= KEY {
        return;
    }
    var c = Coefficients(1.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    if inside {
        c = coefficients(row, p.h, n, head_values(row, p.h));
        if is_reset(p.b, t, at_reverse() != 0u) {
            c.d = 0.0;
            c.a = 0.0;
            if BEFORE {
                c.q = 0.0;
            }
        }
    }
    let at = factor_at(block, i) + n;
    arena[at_decays() + at] = c.d;
    arena[at_reads() + at] = select(c.q, c.k, BACK);
    arena[at_writes() + at] = select(c.k, c.q, BACK);
    if ERASE {
        arena[at_crossing() + at] = select(c.a, c.b, BACK);
        arena[at_corrects() + at] = select(c.b, c.a, BACK);
    }
}
