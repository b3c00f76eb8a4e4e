// The matrix products of a block, 4 x 4 results a lane, in registers; sums run in ascending order.
//
//   SOLVE        (1 − L) U = crossing_writes V    (1 − L) W = crossing                 u from nothing, and by the state before the
//                with L = crossing_corrects, strictly below the diagonal: what a       block; W takes the place of `crossing`
//                step corrects, later steps read
//   SUMS         N = writesᵀ V + correctsᵀ U      M = diag(left) + correctsᵀ W         what a block does to any state before it
//   CORRECTIONS  U + W S                                                               u, from the state before the block
//   OUTPUTS      reads S + reads_writes V + reads_corrects U                           y; BACK dv
//
// Rows and columns past the edge compute a copy of the last one, which is not stored.

const SOLVE: u32 = 0u;
const SUMS: u32 = 1u;
const CORRECTIONS: u32 = 2u;
const OUTPUTS: u32 = 3u;

var<private> sums: array<vec4<f32>, 4>;
// Whether an episode begins in the block: then what a factor of 0 meets may be no number.
var<private> guarded: bool;

fn has_reset(p: Block) -> bool {
    if times[0] == 0u {
        return false;
    }
    for (var t = p.first; t < p.end; t++) {
        if is_reset(p.b, t, at_reverse() != 0u) {
            return true;
        }
    }
    return false;
}

// Four neighbours, `stride` apart, of `count`.
fn four(at: u32, first: u32, stride: u32, count: u32) -> vec4<u32> {
    return vec4(at) + min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(count - 1u)) * stride;
}

fn elements(at: vec4<u32>) -> vec4<f32> {
    return vec4(arena[at.x], arena[at.y], arena[at.z], arena[at.w]);
}

// sums += left · right over `count` products, from a place to the next by a step.
fn multiply(left: vec4<u32>, left_step: u32, right: vec4<u32>, right_step: u32, count: u32) {
    if guarded {
        for (var k = 0u; k < count; k++) {
            add_guarded(elements(left + k * left_step), elements(right + k * right_step), vec4(true));
        }
        return;
    }
    for (var k = 0u; k < count; k++) {
        let l = elements(left + k * left_step);
        let r = elements(right + k * right_step);
        sums[0] = fma(vec4(l.x), r, sums[0]);
        sums[1] = fma(vec4(l.y), r, sums[1]);
        sums[2] = fma(vec4(l.z), r, sums[2]);
        sums[3] = fma(vec4(l.w), r, sums[3]);
    }
}

// What a factor of 0, or one that is none of a row's, lets pass is nothing.
fn add_guarded(l: vec4<f32>, r: vec4<f32>, of_row: vec4<bool>) {
    let lets = of_row & (l != vec4(0.0));
    sums[0] = select(sums[0], fma(vec4(l.x), r, sums[0]), lets.x);
    sums[1] = select(sums[1], fma(vec4(l.y), r, sums[1]), lets.y);
    sums[2] = select(sums[2], fma(vec4(l.z), r, sums[2]), lets.z);
    sums[3] = select(sums[3], fma(vec4(l.w), r, sums[3]), lets.w);
}

// sums += pairs · values: the rows of a tile see the values of steps up to their own.
fn multiply_pairs(pairs: u32, values: u32, block: u32, i: u32, j: u32) {
    let left = four(pairs + pair_at(block, 0u), i, at_chunk(), at_chunk());
    let right = four(values + values_at(block, 0u), j, 1u, COLUMNS);
    multiply(left, 1u, right, COLUMNS, i);
    for (var s = i; s < min(i + 4u, at_chunk()); s++) {
        let of_row = vec4(s) <= vec4(i) + vec4(0u, 1u, 2u, 3u);
        add_guarded(elements(left + s), elements(right + s * COLUMNS), of_row);
    }
}

// Four columns of U or W, from the first step to the last: four steps at a time, those before them as products.
fn solve(block: u32, tile: u32) {
    let groups = (COLUMNS + 3u) / 4u;
    let of_values = tile < groups;
    let j = select(tile - groups, tile, of_values) * 4u;
    let size = select(KEY, COLUMNS, of_values);
    let to = select(at_crossing() + factor_at(block, 0u), at_corrections() + values_at(block, 0u), of_values);
    let right = four(to, j, 1u, size);
    for (var i = 0u; i < at_chunk(); i += 4u) {
        let left = four(at_crossing_corrects() + pair_at(block, 0u), i, at_chunk(), at_chunk());
        sums = array<vec4<f32>, 4>();
        if of_values {
            multiply_pairs(at_crossing_writes(), at_values(), block, i, j);
        } else {
            for (var k = 0u; k < 4u; k++) {
                sums[k] = elements(right + min(i + k, at_chunk() - 1u) * size);
            }
        }
        multiply(left, 1u, right, size, i);
        for (var s = i; s < min(i + 4u, at_chunk()); s++) {
            add_guarded(elements(left + s), sums[s - i], vec4(s) < vec4(i) + vec4(0u, 1u, 2u, 3u));
        }
        for (var k = 0u; k < min(4u, at_chunk() - i); k++) {
            for (var c = 0u; c < min(4u, size - j); c++) {
                arena[to + (i + k) * size + j + c] = sums[k][c];
            }
        }
    }
}

fn summary(p: Block, block: u32, tile: u32) {
    let groups = (COLUMNS + 3u) / 4u;
    let wide = groups + select(0u, (KEY + 3u) / 4u, ERASE);
    let n = tile / wide * 4u;
    let column = tile % wide;
    let of_values = column < groups;
    let j = select(column - groups, column, of_values) * 4u;
    let size = select(KEY, COLUMNS, of_values);
    if of_values {
        multiply(
            four(at_writes() + factor_at(block, 0u), n, 1u, KEY), KEY,
            four(at_values() + values_at(block, 0u), j, 1u, COLUMNS), COLUMNS, at_chunk(),
        );
    } else {
        for (var k = 0u; k < 4u; k++) {
            let left = arena[at_left() + block * KEY + min(n + k, KEY - 1u)];
            sums[k] = select(vec4(0.0), vec4(left), vec4(n + k) == vec4(j) + vec4(0u, 1u, 2u, 3u));
        }
    }
    if ERASE {
        let corrected = select(at_crossing() + factor_at(block, 0u), at_corrections() + values_at(block, 0u), of_values);
        multiply(
            four(at_corrects() + factor_at(block, 0u), n, 1u, KEY), KEY,
            four(corrected, j, 1u, size), size, at_chunk(),
        );
    }
    for (var c = 0u; c < min(4u, size - j); c++) {
        let to = at_summary() + summary_at(p.chunk, p.b, p.h, select(COLUMNS, 0u, of_values) + j + c);
        for (var k = 0u; k < min(4u, KEY - n); k++) {
            arena[to + n + k] = sums[k][c];
        }
    }
}

// sums += factors · S, the state before the block.
fn multiply_state(factors: u32, p: Block, block: u32, i: u32, j: u32) {
    // Past a sequence's last chunk there is none.
    if p.first < p.length {
        let state = at_kept() + kept_at(p.chunk, p.b, p.h, 0u);
        multiply(four(factors + factor_at(block, 0u), i, KEY, at_chunk()), 1u, four(state, j, KEY, COLUMNS), 1u, KEY);
    }
}

fn corrections(p: Block, block: u32, i: u32, j: u32) {
    let at = at_corrections() + values_at(block, 0u);
    for (var k = 0u; k < 4u; k++) {
        sums[k] = elements(four(at + min(i + k, at_chunk() - 1u) * COLUMNS, j, 1u, COLUMNS));
    }
    multiply_state(at_crossing(), p, block, i, j);
    for (var k = 0u; k < min(4u, at_chunk() - i); k++) {
        for (var c = 0u; c < min(4u, COLUMNS - j); c++) {
            arena[at + (i + k) * COLUMNS + j + c] = sums[k][c];
            if KEPT && i + k < p.end - p.first {
                let row = row_of(p.b, step_of(p, i + k), at_reverse() != 0u);
                arena[at_u() + (row * HEADS + p.h) * COLUMNS + j + c] = sums[k][c];
            }
        }
    }
}

fn outputs(p: Block, block: u32, i: u32, j: u32) {
    multiply_state(at_reads(), p, block, i, j);
    multiply_pairs(at_reads_writes(), at_values(), block, i, j);
    if ERASE {
        multiply_pairs(at_reads_corrects(), at_corrections(), block, i, j);
    }
    for (var k = 0u; k < min(4u, at_chunk() - i); k++) {
        var to = at_y() + values_at(block, i + k);
        let t = p.chunk * at_chunk() + i + k;
        if !BACK {
            if t >= at_time() {
                return;
            }
            // Past a sequence's end, 0.
            var row = t * at_batch() + p.b;
            if t < p.length {
                row = row_of(p.b, t, at_reverse() != 0u);
            }
            to = at_y() + (row * HEADS + p.h) * COLUMNS;
        }
        for (var c = 0u; c < min(4u, COLUMNS - j); c++) {
            arena[to + j + c] = select(0.0, sums[k][c], BACK || t < p.length);
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group, lane);
    if item >= at_items() {
        return;
    }
    let block = item / at_tiles();
    let tile = item % at_tiles();
    let p = block_of(block);
    guarded = has_reset(p);
    let wide = (COLUMNS + 3u) / 4u;
    if PRODUCT == SOLVE {
        solve(block, tile);
    } else if PRODUCT == SUMS {
        summary(p, block, tile);
    } else if PRODUCT == CORRECTIONS {
        corrections(p, block, tile / wide * 4u, tile % wide * 4u);
    } else {
        outputs(p, block, tile / wide * 4u, tile % wide * 4u);
    }
}
