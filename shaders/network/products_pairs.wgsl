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

// Of the last part there may be fewer keys.
fn is_key(first: u32, n: u32) -> bool {
    return KEY % PART == 0u || first + n < KEY;
}

fn key_of(first: u32, n: u32) -> u32 {
    return select(min(first + n, KEY - 1u), first + n, KEY % PART == 0u);
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

    // Rows beyond what registers hold go part by part; sums go on from one part to the next.
    for (var first = 0u; first < KEY; first += PART) {
        let ends = first + PART >= KEY;
        var w: array<f32, PART>;
        for (var n = 0u; n < PART; n++) {
            w[n] = arena[own_row + key_of(first, n)];
        }
        for (var i = s; i < at_chunk(); i++) {
            let at = factor_at(block, i);
            // Whether a step's own write is seen, and decays.
            let sees = i > s || AFTER || (!BEFORE && !corrects);
            let decays = i > s || (!AFTER && !BEFORE && !corrects);
            let pair = pair_at(block, i) + s;
            var y = 0.0;
            var u = 0.0;
            if first > 0u {
                y = arena[reads + pair];
                if ERASE {
                    u = arena[crossing + pair];
                }
            }
            for (var n = 0u; n < PART; n++) {
                let before = w[n];
                let key = at + key_of(first, n);
                if ERASE {
                    u = select(u, passed(arena[at_crossing() + key], before, u), is_key(first, n));
                }
                if decays {
                    w[n] = passed(arena[at_decays() + key], before, 0.0);
                }
                y = select(y, passed(arena[at_reads() + key], select(before, w[n], AFTER), y), is_key(first, n));
            }
            if ends && THROUGH && i == s && !corrects {
                y = select(0.0, y, sees) + own(block, i);
            } else if ends && !sees {
                y = 0.0;
            }
            arena[reads + pair] = y;
            if ERASE {
                // A crossing of AFTER comes before the step's own write.
                arena[crossing + pair] = select(u, 0.0, ends && !(sees && (i > s || !AFTER)));
            }
        }
        for (var n = 0u; n < PART; n++) {
            if is_key(first, n) {
                arena[own_row + first + n] = w[n];
            }
        }
    }
}
