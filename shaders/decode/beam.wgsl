// beam: the best hypotheses of every stream, one token on.
//
// A workgroup per stream, its lanes over the tokens of all its rows. Candidates are every live row with every token that may follow it, and
// every row that has ended as it is; the best `width` of them by their rank become the rows, best first. The rank is the score, which is the
// sum of log probabilities, divided by the number of tokens to the power of the length power; equal ranks go by row, then by token. Twin of
// src/decode/choose.rs. A row writes its state to one of two slots in turn; `reading` and `writing` are those of the next step.

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read> rules: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<u32>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
// How many rows there are, then a slot each.
@group(0) @binding(5) var<storage, read_write> reading: array<u32>;
@group(0) @binding(6) var<storage, read_write> writing: array<u32>;

const MOST_ROWS = 16u;

// Per row: the largest logit, the logarithm of the sum, and how it ends where it cannot go on.
var<workgroup> row_most: array<f32, MOST_ROWS>;
var<workgroup> row_log: array<f32, MOST_ROWS>;
var<workgroup> row_status: array<u32, MOST_ROWS>;
var<workgroup> pick_index: array<u32, MOST_ROWS>;
var<workgroup> pick_score: array<f32, MOST_ROWS>;

fn rank_of(score: f32, count: u32) -> f32 {
    let power = bitcast<f32>(words[LENGTH_POWER]);
    if power == 0.0 {
        return score;
    }
    return score / pow(f32(max(count, 1u)), power);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = words[WIDTH];
    let first_row = group.x * width;
    let size = words[SIZE];

    for (var r = 0u; r < width; r++) {
        let row = first_row + r;
        let rule = state[row * FIELDS + RULE];
        var poisoned = 0u;
        var most = LOWEST;
        var at = NONE;
        for (var v = lane; v < size; v += LANES) {
            let x = logit(row, v);
            if may_come(rule, v, x) {
                poisoned |= select(0u, 1u, is_poison(x));
                if at == NONE || x > most {
                    most = x;
                    at = v;
                }
            }
        }
        poisoned = count_of(lane, poisoned);
        let best = largest(lane, most, at);
        most = lane_value[0];
        var sum = 0.0;
        for (var v = lane; v < size; v += LANES) {
            let x = logit(row, v);
            if may_come(rule, v, x) {
                sum += exp(x - most);
            }
        }
        sum = sum_of(lane, sum);
        if lane == 0u {
            row_most[r] = most;
            row_log[r] = log(sum);
            var status = state[row * FIELDS + STATUS];
            if status == LIVE {
                status = select(status, END_NO_TOKEN, best == NONE);
                status = select(status, END_POISONED, poisoned != 0u);
            }
            row_status[r] = status;
        }
        workgroupBarrier();
    }

    // The one before: what is picked comes behind it in the order.
    var last_rank = 0.0;
    var last_index = NONE;
    for (var n = 0u; n < width; n++) {
        var best_rank = LOWEST;
        var best_index = NONE;
        var best_score = 0.0;
        for (var r = 0u; r < width; r++) {
            let own = (first_row + r) * FIELDS;
            let status = row_status[r];
            if status == ABSENT {
                continue;
            }
            let score = bitcast<f32>(state[own + SCORE]);
            let count = state[own + COUNT];
            let rule = state[own + RULE];
            let is_live = status == LIVE;
            // What cannot go on is one candidate, as it is.
            for (var v = lane; v < select(1u, size, is_live); v += LANES) {
                var total = score;
                var length = count;
                if is_live {
                    let x = logit(first_row + r, v);
                    if !may_come(rule, v, x) {
                        continue;
                    }
                    total = score + ((x - row_most[r]) - row_log[r]);
                    length = count + select(1u, 0u, is_end(v));
                }
                let rank = select(rank_of(total, length), LOWEST, status == END_POISONED);
                let index = r * size + v;
                let is_behind = last_index == NONE || rank < last_rank || (rank == last_rank && index > last_index);
                if is_behind && (best_index == NONE || rank > best_rank || (rank == best_rank && index < best_index)) {
                    best_rank = rank;
                    best_index = index;
                    best_score = total;
                }
            }
        }
        let picked = largest(lane, best_rank, best_index);
        last_rank = lane_value[0];
        // Where there is none, none comes behind it either.
        last_index = select(picked, 0xfffffffeu, picked == NONE);
        if picked == best_index && picked != NONE {
            pick_score[n] = best_score;
        }
        if lane == 0u {
            pick_index[n] = picked;
        }
        workgroupBarrier();
    }

    // Rows from those that they go on from: first read, then written.
    let r = lane;
    var next: array<u32, FIELDS>;
    var token = NONE;
    var parent = NONE;
    var step = 0u;
    var slot = 0u;
    if r < width {
        let own = (first_row + r) * FIELDS;
        step = state[own + STEP];
        let picked = pick_index[r];
        if picked == NONE {
            next[STATUS] = ABSENT;
            slot = writing[1u + first_row + r];
        } else {
            parent = picked / size;
            let origin = (first_row + parent) * FIELDS;
            for (var f = 0u; f < FIELDS; f++) {
                next[f] = state[origin + f];
            }
            slot = writing[1u + first_row + parent];
            next[STATUS] = row_status[parent];
            if row_status[parent] == LIVE {
                token = picked % size;
                next[SCORE] = bitcast<u32>(pick_score[r]);
                next[RULE] = rule_after(next[RULE], token);
                next[STATUS] = status_with(token, next[COUNT], next[MOST]);
                next[COUNT] += select(1u, 0u, next[STATUS] == END_TOKEN);
            }
        }
        next[STEP] = step + 1u;
        next[SLOTS] = state[own + SLOTS];
        next[SLOTS + 1u] = state[own + SLOTS + 1u];
    }
    storageBarrier();
    workgroupBarrier();
    if r < width {
        let row = first_row + r;
        for (var f = 0u; f < FIELDS; f++) {
            state[row * FIELDS + f] = next[f];
        }
        state[log_at(step, row)] = token;
        state[log_at(words[STEPS] + step, row)] = parent;
        ids[row] = id_of(select(token, 0u, token == NONE));
        reading[1u + row] = slot;
        writing[1u + row] = next[SLOTS + ((step + 1u) & 1u)];
    }
}
