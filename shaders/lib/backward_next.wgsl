// The gradient of `out` of stage _STAGE for one unit of sequence b at step s: what the next stage's product passes back, or
// for the last stage the gradient of y plus that of h from step s + 1 (of hn at the sequence's last step).
fn out_gradient_STAGE(direction: u32, s: u32, b: u32, unit: u32) -> real {
    let r = row_offset(s) + b;
    if !LAST_STAGE {
        return operand_gradient_NEXT(direction, pre_row(direction, r), unit);
    }
    let upstream = dy[(outer_row(direction, r) * DIRECTIONS + direction) * OUTPUT + unit];
    if s + 1u == length_of(b) {
        return upstream + dhn[((dims.layer * DIRECTIONS + direction) * dims.batch + order_of(b)) * OUTPUT + unit];
    }
    return upstream + operand_gradient_NEXT(direction, pre_row(direction, row_offset(s + 1u) + b), unit);
}
