// SPLIT lanes own a unit together where a step of few sequences would keep too few lanes busy: lane part p takes the k-th four features
// of the operand with k = p, p + SPLIT, ... Their sums meet here and are added in the order of the parts, whatever the batch.
// Of what follows the product each part does the tile's sequences p, p + SPLIT, ...

const SPLIT_UNITS: u32 = WIDTH / SPLIT;

// [sequence][gate][part][unit]
var<workgroup> partial_sums: array<real, PARTIAL_SUMS>;

fn part_of(lane: u32) -> u32 {
    if SPLIT == 1u {
        return 0u;
    }
    return lane / SPLIT_UNITS;
}

fn share_sum(lane: u32, b: u32, gate: u32, gates: u32, sum: real) {
    partial_sums[(b * gates + gate) * WIDTH + lane] = sum;
}

fn whole_sum(lane: u32, b: u32, gate: u32, gates: u32) -> real {
    let at = (b * gates + gate) * WIDTH + lane % SPLIT_UNITS;
    var sum = partial_sums[at];
    for (var p = 1u; p < SPLIT; p++) {
        sum += partial_sums[at + p * SPLIT_UNITS];
    }
    return sum;
}
