// The row statistic of a normalising stage over gates and units, for every sequence of the tile; sums in a fixed order.
fn normalise_STAGE(p: Place, acc: ptr<function, array<array<real, RECURRENT_STAGE>, TILE>>) {
    let count = real(RECURRENT_STAGE * UNITS_STAGE);
    for (var b = 0u; b < TILE; b++) {
        var sum: real = 0.0;
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            sum += (*acc)[b][g];
        }
        let mean = unit_sum_STAGE(p.unit, sum) / count;
        sum = 0.0;
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            let v = (*acc)[b][g] - mean;
            sum += v * v;
        }
        let scale = 1.0 / sqrt(unit_sum_STAGE(p.unit, sum) / count + NORMALISE_EPSILON);
        if TRAIN && p.unit == 0u && p.tile + b < p.running {
            keep_gate((p.row + p.tile + b) * ROW_WIDTH + SCALE_AT_STAGE, scale);
        }
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            (*acc)[b][g] = ((*acc)[b][g] - mean) * scale;
        }
    }
}

// The sum of every unit's value; lanes past the last unit do not count.
fn unit_sum_STAGE(lane: u32, value: real) -> real {
    sums[lane] = value;
    workgroupBarrier();
    var sum: real = 0.0;
    for (var i = 0u; i < UNITS_STAGE; i++) {
        sum += sums[i];
    }
    workgroupBarrier();
    return sum;
}
