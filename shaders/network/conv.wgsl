// Convolutions over time (src/network/mod.rs, `Conv` and `Shift`, which is one with the single tap x[t − 1]).
//
// A step sees its own episode only: from step t, step p is visible unless an episode begins at one of the steps after the earlier
// and up to the later. Steps before the first are in the state, the oldest first.

fn visible(b: u32, p: i32, t: i32) -> bool {
    if times[0] == 0u {
        return true;
    }
    for (var s = max(min(p, t) + 1, 0); s <= max(p, t); s++) {
        if flag(u32(s), b) {
            return false;
        }
    }
    return true;
}

// x[p] as step t sees it.
fn seen(b: u32, c: u32, p: i32, t: i32) -> f32 {
    if p >= i32(length_of(b)) || (p < 0 && !STATEFUL) || !visible(b, p, t) {
        return 0.0;
    }
    if p < 0 {
        return arena[at_initial() + (b * LOW + u32(i32(LOW) + p)) * WIDTH + c];
    }
    return arena[at_x() + (u32(p) * at_batch() + b) * X_STRIDE + c];
}

fn weight(c: u32, k: u32) -> f32 {
    if SHIFT {
        return 1.0;
    }
    return params[at_w() + c * TAPS + k];
}
