// What kernels that choose tokens share: `words`, the rows' state, and which tokens a row may be given.
//
// A row is a hypothesis of a stream: where `width` is 1, the stream itself. `state` has FIELDS words per row, then per step and row the token
// that was chosen, then per step and row the row of the same stream that it went on from.

// Of `words`; end tokens follow from ENDS on.
const ROWS = 0u;
const SIZE = 1u;
const STRIDE = 2u;
const FIRST = 3u;
const WIDTH = 4u;
const FLOAT_IDS = 5u;
const HAS_RULES = 6u;
const END_COUNT = 7u;
const TOP_K = 8u;
const TOP_P = 9u;
const TEMPERATURE = 10u;
const SEED = 11u;
const LENGTH_POWER = 13u;
const STEPS = 14u;
const ENDS = 16u;

// Of a row's state.
const FIELDS = 10u;
const SCORE = 0u;
const RULE = 1u;
const STATUS = 2u;
const COUNT = 3u;
const MOST = 4u;
const NUMBER = 5u;
const STEP = 6u;
const SLOTS = 8u;

// Of STATUS.
const LIVE = 0u;
const END_TOKEN = 1u;
const END_LENGTH = 2u;
const END_NO_TOKEN = 3u;
const END_POISONED = 4u;
const ABSENT = 5u;

const NONE = 0xffffffffu;
const LANES = 64u;
const LOWEST = -3.4028234e38;

// Not a number, or infinite.
fn is_poison(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u || bitcast<u32>(x) == 0x7f800000u;
}

fn logit(row: u32, token: u32) -> f32 {
    return logits[words[FIRST] + row * words[STRIDE] + token];
}

// Whether a token may come where the rules are in this state; -inf as a logit says no, too.
fn may_come(rule: u32, token: u32, x: f32) -> bool {
    if bitcast<u32>(x) == 0xff800000u {
        return false;
    }
    return words[HAS_RULES] == 0u || rules[rule * words[SIZE] + token] != NONE;
}

fn rule_after(rule: u32, token: u32) -> u32 {
    if words[HAS_RULES] == 0u {
        return 0u;
    }
    return rules[rule * words[SIZE] + token];
}

fn is_end(token: u32) -> bool {
    for (var n = 0u; n < words[END_COUNT]; n++) {
        if words[ENDS + n] == token {
            return true;
        }
    }
    return false;
}

// What becomes of a row that a token was chosen for, `count` of them before it.
fn status_with(token: u32, count: u32, most: u32) -> u32 {
    if is_end(token) {
        return END_TOKEN;
    }
    return select(LIVE, END_LENGTH, count + 1u >= most);
}

// A token as the model reads it.
fn id_of(token: u32) -> u32 {
    return select(token, bitcast<u32>(f32(token)), words[FLOAT_IDS] == 1u);
}

fn log_at(step: u32, row: u32) -> u32 {
    return words[ROWS] * FIELDS + step * words[ROWS] + row;
}

var<workgroup> lane_value: array<f32, 64>;
var<workgroup> lane_index: array<u32, 64>;
var<workgroup> lane_sum: array<f32, 64>;
var<workgroup> lane_count: array<u32, 64>;

// The largest value of all lanes, with the smallest of its indices (NONE: a lane has none); every lane has it then.
fn largest(lane: u32, value: f32, index: u32) -> u32 {
    workgroupBarrier();
    lane_value[lane] = value;
    lane_index[lane] = index;
    for (var n = LANES / 2u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            let other = lane_value[lane + n];
            let at = lane_index[lane + n];
            let own = lane_value[lane];
            let own_at = lane_index[lane];
            if at != NONE && (own_at == NONE || other > own || (other == own && at < own_at)) {
                lane_value[lane] = other;
                lane_index[lane] = at;
            }
        }
    }
    workgroupBarrier();
    return lane_index[0];
}

// The sum over all lanes, in one order.
fn sum_of(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    lane_sum[lane] = value;
    for (var n = LANES / 2u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            lane_sum[lane] += lane_sum[lane + n];
        }
    }
    workgroupBarrier();
    return lane_sum[0];
}

fn count_of(lane: u32, value: u32) -> u32 {
    workgroupBarrier();
    lane_count[lane] = value;
    for (var n = LANES / 2u; n > 0u; n >>= 1u) {
        workgroupBarrier();
        if lane < n {
            lane_count[lane] += lane_count[lane + n];
        }
    }
    workgroupBarrier();
    return lane_count[0];
}
