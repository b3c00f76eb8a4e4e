// What all kernels of networks share: the memory, the lanes, and time.
//
// `arena` holds every slot of the plan, the gradients of parameters and scratch, each at an offset; the `at_*` functions that
// stand before this text give the words of the dispatch: offsets and sizes. `times` is a flag (whether there are resets), the
// lengths [B], and the resets [T, B].

@group(0) @binding(1) var<storage, read_write> arena: array<f32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read> times: array<u32>;

const LANES: u32 = 64u;

// One item per lane; workgroups beyond a dimension's limit go on in y.
fn item_of(group: vec3<u32>, lane: u32) -> u32 {
    return (group.y * at_groups() + group.x) * LANES + lane;
}

fn length_of(b: u32) -> u32 {
    return times[1u + b];
}

fn flag(t: u32, b: u32) -> bool {
    return times[0] != 0u && times[1u + at_batch() + t * at_batch() + b] != 0u;
}

// The row of step `s` of a sequence, counted from its end if `reverse`.
fn row_of(b: u32, s: u32, reverse: bool) -> u32 {
    if reverse {
        return (length_of(b) - 1u - s) * at_batch() + b;
    }
    return s * at_batch() + b;
}

// Whether the state before step `s` is empty because an episode begins (or, in reverse, ends) there.
fn is_reset(b: u32, s: u32, reverse: bool) -> bool {
    if reverse {
        return s > 0u && flag(length_of(b) - s, b);
    }
    return flag(s, b);
}

fn is_padding(row: u32) -> bool {
    return row / at_batch() >= length_of(row % at_batch());
}
