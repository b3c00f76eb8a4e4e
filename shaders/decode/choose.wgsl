// choose: the next token of every row, the likeliest or one that is drawn.
//
// A workgroup per row, its lanes over the tokens. A token is drawn with the probability that softmax(logits / temperature) gives it among those
// that are kept: with top_k those at least as likely as the k-th, then with top_p those at least as likely as the last that is needed for a
// sum of top_p (of those at hand). Both bounds are found bit by bit, in keys that are ordered as the logits, so that nothing is sorted. The
// random number is word 0 of philox(counter = [tokens so far, 0, the stream's number, 0], key = seed). Twin of src/decode/choose.rs.

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read> rules: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<u32>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;

// Ordered as the values are.
fn key_of(x: f32) -> u32 {
    let bits = select(bitcast<u32>(x), 0u, x == 0.0);
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let own = row * FIELDS;
    let size = words[SIZE];
    let rule = state[own + RULE];

    var poisoned = 0u;
    var most = LOWEST;
    var at = NONE;
    var allowed = 0u;
    for (var v = lane; v < size; v += LANES) {
        let x = logit(row, v);
        if may_come(rule, v, x) {
            poisoned |= select(0u, 1u, is_poison(x));
            allowed += 1u;
            if at == NONE || x > most {
                most = x;
                at = v;
            }
        }
    }
    poisoned = count_of(lane, poisoned);
    allowed = count_of(lane, allowed);
    var token = largest(lane, most, at);
    most = lane_value[0];
    var sum = 0.0;
    for (var v = lane; v < size; v += LANES) {
        let x = logit(row, v);
        if may_come(rule, v, x) {
            sum += exp(x - most);
        }
    }
    sum = sum_of(lane, sum);

    if words[TEMPERATURE] != 0u {
        let scale = 1.0 / bitcast<f32>(words[TEMPERATURE]);
        // Keys from here on are kept.
        var least = 0u;
        if words[TOP_K] != 0u {
            let wanted = min(words[TOP_K], allowed);
            for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
                var count = 0u;
                for (var v = lane; v < size; v += LANES) {
                    let x = logit(row, v);
                    count += select(0u, 1u, may_come(rule, v, x) && key_of(x) >= (least | bit));
                }
                if count_of(lane, count) >= wanted {
                    least |= bit;
                }
            }
        }
        if words[TOP_P] != 0u {
            var all = 0.0;
            for (var v = lane; v < size; v += LANES) {
                let x = logit(row, v);
                if may_come(rule, v, x) && key_of(x) >= least {
                    all += exp((x - most) * scale);
                }
            }
            let wanted = bitcast<f32>(words[TOP_P]) * sum_of(lane, all);
            var bound = 0u;
            for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
                var part = 0.0;
                for (var v = lane; v < size; v += LANES) {
                    let x = logit(row, v);
                    if may_come(rule, v, x) && key_of(x) >= max(least, bound | bit) {
                        part += exp((x - most) * scale);
                    }
                }
                if sum_of(lane, part) >= wanted {
                    bound |= bit;
                }
            }
            least = max(least, bound);
        }
        // Lanes have their tokens side by side: sums of all before a token are in the tokens' order.
        let each = (size + LANES - 1u) / LANES;
        let begin = min(lane * each, size);
        let end = min(begin + each, size);
        var part = 0.0;
        var last = NONE;
        for (var v = begin; v < end; v++) {
            let x = logit(row, v);
            if may_come(rule, v, x) && key_of(x) >= least {
                part += exp((x - most) * scale);
                last = v;
            }
        }
        workgroupBarrier();
        lane_sum[lane] = part;
        workgroupBarrier();
        var before = 0.0;
        var all = 0.0;
        for (var n = 0u; n < LANES; n++) {
            before = select(before, all, n == lane);
            all += lane_sum[n];
        }
        let key = vec2<u32>(words[SEED], words[SEED + 1u]);
        let word = philox4x32_10(vec4<u32>(state[own + COUNT], 0u, state[own + NUMBER], 0u), key).x;
        let target_sum = f32(word >> 8u) * (1.0 / 16777216.0) * all;
        // The first token with the target below the sum up to it; where rounding leaves none, the last that is kept.
        var found = NONE;
        var so_far = before;
        for (var v = begin; v < end; v++) {
            let x = logit(row, v);
            if may_come(rule, v, x) && key_of(x) >= least {
                so_far += exp((x - most) * scale);
                if found == NONE && so_far > target_sum {
                    found = v;
                }
            }
        }
        let first = smallest_of(lane, found);
        let end_of_all = last_of(lane, last);
        token = select(first, end_of_all, first == NONE);
    }

    if lane == 0u {
        let status = state[own + STATUS];
        let step = state[own + STEP];
        var given = NONE;
        if status == LIVE {
            let count = state[own + COUNT];
            if poisoned != 0u {
                state[own + STATUS] = END_POISONED;
            } else if token == NONE {
                state[own + STATUS] = END_NO_TOKEN;
            } else {
                given = token;
                let next = status_with(token, count, state[own + MOST]);
                state[own + SCORE] = bitcast<u32>(bitcast<f32>(state[own + SCORE]) + ((logit(row, token) - most) - log(sum)));
                state[own + RULE] = rule_after(rule, token);
                state[own + STATUS] = next;
                state[own + COUNT] = count + select(1u, 0u, next == END_TOKEN);
            }
        }
        state[own + STEP] = step + 1u;
        state[log_at(step, row)] = given;
        // Whoever has ended goes on unheard.
        ids[row] = id_of(select(given, 0u, given == NONE));
    }
}

// The smallest token of all lanes.
fn smallest_of(lane: u32, value: u32) -> u32 {
    workgroupBarrier();
    lane_index[lane] = value;
    for (var n = LANES / 2u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            lane_index[lane] = min(lane_index[lane], lane_index[lane + n]);
        }
    }
    workgroupBarrier();
    return lane_index[0];
}

// The largest, NONE aside.
fn last_of(lane: u32, value: u32) -> u32 {
    workgroupBarrier();
    lane_index[lane] = value + 1u;
    for (var n = LANES / 2u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            lane_index[lane] = max(lane_index[lane], lane_index[lane + n]);
        }
    }
    workgroupBarrier();
    return lane_index[0] - 1u;
}
