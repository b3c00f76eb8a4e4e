// scan_rows: the gradients of what d, a, b, k, q and r are made of, over a chunk of steps: forward again from the state before it,
// keeping the states, then back from Λ after it.
//
//   dd = Σ_V Λ' ∘ S      da = S g      db = Λ' u      dk = Λ' v      dq = S' dy  (BEFORE: S dy)      dr = v·dy
//
// Parallel over (chunk of this window, sequence, head, key index): a lane keeps one row of S and of Λ, PART of their columns at a
// time, and adds up over these in ascending order; rows share only u and g, which are known, and columns nothing. Kept states: [steps of
// a chunk, columns of a part, lanes].

// Whether contributions of an earlier part are there already.
var<private> later_part: bool;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let n = item % KEY;
    let h = item / KEY % HEADS;
    let b = item / (KEY * HEADS) % at_batch();
    let chunk = at_first() + item / (KEY * HEADS * at_batch());
    let length = length_of(b);
    let first = min(chunk * at_chunk(), length);
    let end = min((chunk + 1u) * at_chunk(), length);
    if first < end {
        for (var from_column = 0u; from_column < COLUMNS; from_column += PART) {
            again(item, b, h, n, chunk, first, end, from_column);
            back(item, b, h, n, chunk, first, end, from_column);
            // What is left adds to what is there.
            later_part = true;
        }
    }
    store_sums(chunk * at_batch() + b, h, n);
}

fn window_at(item: u32, step: u32, j: u32) -> u32 {
    return at_window() + (step * PART + j) * at_items() + item;
}

// The last part may have fewer columns: what is beyond goes along and counts for nothing.
fn is_column(j: u32) -> bool {
    return COLUMNS % PART == 0u || j < COLUMNS;
}

fn column_of(j: u32) -> u32 {
    return select(min(j, COLUMNS - 1u), j, COLUMNS % PART == 0u);
}

fn again(item: u32, b: u32, h: u32, n: u32, chunk: u32, first: u32, end: u32, from_column: u32) {
    var s: array<f32, PART>;
    for (var j = 0u; j < PART; j++) {
        s[j] = arena[at_checkpoints() + kept_at(chunk, b, h, column_of(from_column + j)) + n];
    }
    for (var t = first; t < end; t++) {
        let row = row_of(b, t, at_reverse() != 0u);
        let crosses = !is_reset(b, t, at_reverse() != 0u);
        let c = coefficients(row, h, n, head_values(row, h));
        for (var j = 0u; j < PART; j++) {
            let column = column_of(from_column + j);
            let before = select(0.0, s[j], crosses);
            arena[window_at(item, t - first, j)] = before;
            var after = fma(c.k, column_value(row, h, column), c.d * before);
            if ERASE {
                after = fma(c.b, arena[at_erased() + (row * HEADS + h) * COLUMNS + column], after);
            }
            s[j] = after;
        }
    }
}

fn back(item: u32, b: u32, h: u32, n: u32, chunk: u32, first: u32, end: u32, from_column: u32) {
    var s: array<f32, PART>;
    for (var j = 0u; j < PART; j++) {
        s[j] = arena[at_boundaries() + kept_at(chunk, b, h, column_of(from_column + j)) + n];
    }
    for (var step = 0u; step < end - first; step++) {
        let t = end - 1u - step;
        let row = row_of(b, t, at_reverse() != 0u);
        let crosses = !is_reset(b, t, at_reverse() != 0u);
        let c = coefficients(row, h, n, head_values(row, h));
        var d = Coefficients(0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        for (var j = 0u; j < PART; j++) {
            let column = column_of(from_column + j);
            let place = (row * HEADS + h) * COLUMNS + column;
            let own = is_column(from_column + j);
            let v = column_value(row, h, column);
            let dy = arena[at_dy() + place];
            let before = arena[window_at(item, t - first, j)];
            var after = fma(c.k, v, c.d * before);
            var l = s[j];
            if !BEFORE {
                l = fma(c.q, dy, l);
            }
            var out = c.d * l;
            if ERASE {
                let u = arena[at_erased() + place];
                let g = arena[at_g() + place];
                after = fma(c.b, u, after);
                d.a = fma(select(0.0, before, own), g, d.a);
                d.b = fma(select(0.0, l, own), u, d.b);
                out = fma(c.a, g, out);
            }
            d.d = fma(select(0.0, l, own), before, d.d);
            d.k = fma(select(0.0, l, own), v, d.k);
            d.q = fma(select(after, before, BEFORE), select(0.0, dy, own), d.q);
            d.r = fma(v, select(0.0, dy, own), d.r);
            if BEFORE {
                out = fma(c.q, dy, out);
            }
            s[j] = select(0.0, out, crosses);
        }
        add_gradients(row, (t - at_first() * at_chunk()) * at_batch() + b, h, n, d);
    }
}
