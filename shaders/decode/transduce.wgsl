// transduce: what every stream's logits say: a token, which the prediction network reads next, or none; and how far its encoder's step goes on.
//
// A workgroup per row, its lanes over the tokens. The first of the largest logits is chosen. Twin of src/decode/transducer.rs. A stream that had
// no token runs through the prediction network all the same, and its state is written to a slot that nobody reads.

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> state: array<u32>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;
// How many rows there are, then a slot each.
@group(0) @binding(4) var<storage, read_write> writing: array<u32>;
// Per row a slot that nobody reads.
@group(0) @binding(5) var<storage, read> spare: array<u32>;

var<workgroup> lane_value: array<f32, 64>;
var<workgroup> lane_index: array<u32, 64>;
var<workgroup> lane_sum: array<f32, 64>;

struct Best {
    // NONE where a logit is not a number, or infinite.
    index: u32,
    // Its log probability.
    score: f32,
}

fn best_of(lane: u32, first: u32, size: u32) -> Best {
    var most = -3.4028234e38;
    var at = NONE;
    var poisoned = false;
    for (var v = lane; v < size; v += 64u) {
        let x = logits[first + v];
        let bits = bitcast<u32>(x);
        poisoned = poisoned || (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u;
        if bits != 0xff800000u && (at == NONE || x > most) {
            most = x;
            at = v;
        }
    }
    workgroupBarrier();
    lane_value[lane] = most;
    lane_index[lane] = at;
    lane_sum[lane] = select(0.0, 1.0, poisoned);
    for (var n = 32u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            let other = lane_value[lane + n];
            let theirs = lane_index[lane + n];
            let mine = lane_index[lane];
            if theirs != NONE && (mine == NONE || other > lane_value[lane] || (other == lane_value[lane] && theirs < mine)) {
                lane_value[lane] = other;
                lane_index[lane] = theirs;
            }
            lane_sum[lane] += lane_sum[lane + n];
        }
    }
    workgroupBarrier();
    most = lane_value[0];
    at = select(lane_index[0], NONE, lane_sum[0] > 0.0);
    var sum = 0.0;
    for (var v = lane; v < size; v += 64u) {
        sum += exp(logits[first + v] - most);
    }
    workgroupBarrier();
    lane_sum[lane] = sum;
    for (var n = 32u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            lane_sum[lane] += lane_sum[lane + n];
        }
    }
    workgroupBarrier();
    return Best(at, -log(lane_sum[0]));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let own = row * FIELDS;
    let best = best_of(lane, words[LOGITS_FIRST] + row * words[LOGITS_STRIDE], words[SIZE]);
    var duration = Best(0u, 0.0);
    if words[DURATIONS] > 0u {
        duration = best_of(lane, words[DURATIONS_FIRST] + row * words[DURATIONS_STRIDE], words[DURATIONS]);
    }
    if lane == 0u {
        let at = state[own + AT];
        var token = NONE;
        var advanced = 0u;
        if state[own + STATUS] == LIVE {
            if best.index == NONE || duration.index == NONE {
                state[own + STATUS] = POISONED;
            } else {
                let is_blank = best.index == words[BLANK];
                var steps = select(0u, 1u, is_blank);
                if words[DURATIONS] > 0u {
                    // A blank that takes no time would come again for ever.
                    steps = max(steps, words[DURATION_VALUES + duration.index]);
                }
                state[own + SCORE] = bitcast<u32>(bitcast<f32>(state[own + SCORE]) + (best.score + duration.score));
                var symbols = state[own + SYMBOLS];
                if !is_blank {
                    token = best.index;
                    advanced = 1u;
                    symbols += 1u;
                }
                if steps == 0u && symbols >= words[MAX_SYMBOLS] {
                    steps = 1u;
                }
                state[own + SYMBOLS] = select(symbols, 0u, steps > 0u);
                state[own + AT] = at + steps;
                if at + steps >= state[own + TIME] {
                    state[own + STATUS] = DONE;
                }
            }
        }
        let round = state[own + ROUND];
        state[own + ROUND] = round + 1u;
        state[own + ADVANCED] = advanced;
        let log = words[ROWS] * FIELDS + round * words[ROWS] + row;
        state[log] = token;
        state[log + words[ROUNDS] * words[ROWS]] = at;
        ids[row] = select(token, 0u, token == NONE);
        writing[1u + row] = select(spare[row], state[own + SLOT], advanced == 1u);
    }
}
