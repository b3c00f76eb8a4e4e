// products_pairs: what every later step of a block reads of what a step writes, its row of factors decaying from step to step; at
// the end of the block that row is what the state has of the write.
//
// Parallel over (block, stream, step): streams are `writes` and, with a correction, `corrects`.


// r of a step: what it adds by itself, whatever the state.
fn own(block: u32, i: u32) -> f32 {
    let p = block_of(block);
    if i >= p.end - p.first {
        return 0.0;
    }
    let row = row_of(p.b, step_of(p, i), at_reverse() != 0u);
    let head = head_values(row, p.h);
    var r = through_of(row, p.h);
    for (var n = 0u; n < KEY; n++) {
        r += coefficients(row, p.h, n, head).r;
    }
    return r;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let s = item % at_chunk();
    let corrects = ERASE && item / at_chunk() % 2u == 1u;
    let block = item / (at_chunk() * select(1u, 2u, ERASE));
    let own_row = select(at_writes(), at_corrects(), corrects) + factor_at(block, s);
    let reads = select(at_reads_writes(), at_reads_corrects(), corrects);
    let crossing = select(at_crossing_writes(), at_crossing_corrects(), corrects);

    var w: array<f32, KEY>;
    for (var n = 0u; n < KEY; n++) {
        w[n] = arena[own_row + n];
    }
    for (var i = s; i < at_chunk(); i++) {
        let at = factor_at(block, i);
        // Whether a step's own write is seen, and decays.
        let sees = i > s || AFTER || (!BEFORE && !corrects);
        let decays = i > s || (!AFTER && !BEFORE && !corrects);
        var y = 0.0;
        var u = 0.0;
        for (var n = 0u; n < KEY; n++) {
            let before = w[n];
            if ERASE {
                u = passed(arena[at_crossing() + at + n], before, u);
            }
            if decays {
                w[n] = passed(arena[at_decays() + at + n], before, 0.0);
            }
            y = passed(arena[at_reads() + at + n], select(before, w[n], AFTER), y);
        }
        if THROUGH && i == s && !corrects {
            y = select(0.0, y, sees) + own(block, i);
        } else if !sees {
            y = 0.0;
        }
        arena[reads + pair_at(block, i) + s] = y;
        if ERASE {
            // A crossing of AFTER comes before the step's own write.
            arena[crossing + pair_at(block, i) + s] = select(0.0, u, sees && (i > s || !AFTER));
        }
    }
    for (var n = 0u; n < KEY; n++) {
        arena[own_row + n] = w[n];
    }
}
