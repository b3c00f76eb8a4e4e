// scan_forward: the recurrence of src/rule.rs over a span of steps: a stretch of a sequence (dispatched one after the other), or a chunk.
//
//   u = Sᵀ a      S' = diag(d) S + b uᵀ + k vᵀ      y = S'ᵀ q + r v  (or of S, BEFORE)
//
// Parallel over (span, sequence, head, column): a lane keeps one column of a state, K values, in registers; columns of a state
// have nothing to do with each other. K runs in ascending order.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let p = place_of(item);
    let j = p.j;
    let h = p.h;
    let b = p.b;
    let span = p.span;

    var s: array<f32, KEY>;
    for (var n = 0u; n < KEY; n++) {
        if PASS == WHOLE {
            s[n] = arena[at_before() + state_at(b, h, j) + n];
        } else if PASS == CHUNKS && p.first < p.length {
            s[n] = arena[at_checkpoints() + kept_at(span, b, h, j) + n];
        } else {
            s[n] = select(0.0, identity(j - COLUMNS, n), j >= COLUMNS);
        }
    }
    for (var t = p.first; t < p.end; t++) {
        let row = row_of(b, t, at_reverse() != 0u);
        if PASS == WHOLE && KEEP && t % at_chunk() == 0u {
            for (var n = 0u; n < KEY; n++) {
                arena[at_checkpoints() + kept_at(t / at_chunk(), b, h, j) + n] = s[n];
            }
        }
        let crosses = !is_reset(b, t, at_reverse() != 0u);
        let head = head_values(row, h);
        let v = column_value(row, h, j);
        var u = 0.0;
        if ERASE {
            for (var n = 0u; n < KEY; n++) {
                u = fma(coefficients(row, h, n, head).a, select(0.0, s[n], crosses), u);
            }
            if ERASED && PASS != SUMMARY {
                arena[at_erased() + (row * HEADS + h) * COLUMNS + j] = u;
            }
        }
        var y = 0.0;
        var r = through_of(row, h);
        for (var n = 0u; n < KEY; n++) {
            let c = coefficients(row, h, n, head);
            let before = select(0.0, s[n], crosses);
            var after = fma(c.k, v, c.d * before);
            if ERASE {
                after = fma(c.b, u, after);
            }
            s[n] = after;
            y = fma(c.q, select(after, before, BEFORE), y);
            r += c.r;
        }
        if PASS != SUMMARY {
            arena[at_y() + (row * HEADS + h) * COLUMNS + j] = fma(r, v, y);
        }
    }
    if PASS != SUMMARY {
        for (var t = max(span * at_span(), p.length); t < min((span + 1u) * at_span(), at_time()); t++) {
            arena[at_y() + ((t * at_batch() + b) * HEADS + h) * COLUMNS + j] = 0.0;
        }
    }
    for (var n = 0u; n < KEY; n++) {
        if PASS == WHOLE {
            arena[at_last() + state_at(b, h, j) + n] = s[n];
        }
        if PASS == SUMMARY {
            arena[at_summary() + summary_at(span, b, h, j) + n] = s[n];
        }
    }
}
