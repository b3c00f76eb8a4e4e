// scan_columns: the recurrence of gradients, over a span of steps from its last to its first:
//
//   Λ' = Λ + q dyᵀ      dv = Λ'ᵀ k + r dy      g = Λ'ᵀ b      Λ_before = diag(d) Λ' + a gᵀ      (BEFORE: + q dyᵀ here)
//
// Gives the gradients of what v is made of, g for scan_rows, and Λ after every chunk.
//
// Parallel over (span, sequence, head, column): a lane keeps one column of Λ, K values, in registers.

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
            s[n] = arena[at_after() + state_at(b, h, j) + n];
        } else if PASS == CHUNKS && p.first < p.length {
            s[n] = arena[at_boundaries() + kept_at(span, b, h, j) + n];
        } else {
            s[n] = select(0.0, identity(j - COLUMNS, n), j >= COLUMNS);
        }
    }
    for (var back = 0u; back < p.end - p.first; back++) {
        let t = p.end - 1u - back;
        if PASS == WHOLE && (t % at_chunk() == at_chunk() - 1u || t == p.length - 1u) {
            for (var n = 0u; n < KEY; n++) {
                arena[at_boundaries() + kept_at(t / at_chunk(), b, h, j) + n] = s[n];
            }
        }
        let row = row_of(b, t, at_reverse() != 0u);
        let head = head_values(row, h);
        var dy = 0.0;
        if j < COLUMNS {
            dy = arena[at_dy() + (row * HEADS + h) * COLUMNS + j];
        }
        var dv = 0.0;
        var g = 0.0;
        var r = through_of(row, h);
        for (var n = 0u; n < KEY; n++) {
            let c = coefficients(row, h, n, head);
            if !BEFORE {
                s[n] = fma(c.q, dy, s[n]);
            }
            dv = fma(c.k, s[n], dv);
            g = fma(c.b, s[n], g);
            r += c.r;
        }
        dv = fma(r, dy, dv);
        let crosses = !is_reset(b, t, at_reverse() != 0u);
        for (var n = 0u; n < KEY; n++) {
            let c = coefficients(row, h, n, head);
            var before = c.d * s[n];
            if ERASE {
                before = fma(c.a, g, before);
            }
            if BEFORE {
                before = fma(c.q, dy, before);
            }
            s[n] = select(0.0, before, crosses);
        }
        if PASS != SUMMARY {
            if ERASE {
                arena[at_g() + (row * HEADS + h) * COLUMNS + j] = g;
            }
            if j < VALUE {
                add_gradients(row, t * at_batch() + b, h, j, dv);
            }
        }
    }
    if PASS != SUMMARY && j < VALUE {
        store_sums(span * at_batch() + b, h, j);
    }
    for (var n = 0u; n < KEY; n++) {
        if PASS == WHOLE {
            arena[at_d_initial() + state_at(b, h, j) + n] = s[n];
        }
        if PASS == SUMMARY {
            arena[at_summary() + summary_at(span, b, h, j) + n] = s[n];
        }
    }
    if PASS == WHOLE && MAXIMA && j == 0u {
        // Results do not depend on m.
        arena[at_d_initial() + b * STATE + HEADS * COLUMNS * KEY + h] = 0.0;
    }
}
