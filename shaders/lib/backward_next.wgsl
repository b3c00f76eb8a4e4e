// The gradient of `out` of stage _STAGE for one unit of sequence b at step s: what the next stage's product passes back, or
// for the last stage the gradient of y plus that of h from step s + 1 (from d_hidden at the end of the sequence or segment; none where an
// episode begins there).
fn out_gradient_STAGE(direction: u32, s: u32, b: u32, unit: u32) -> real {
    let r = row_offset(s) + b;
    if !LAST_STAGE {
        return operand_gradient_NEXT(direction, pre_row(direction, r), unit);
    }
    var upstream: real = 0.0;
    if WRITE_Y {
        upstream = dy[(outer_row(direction, r) * DIRECTIONS + direction) * OUTPUT + unit];
    }
    if s + 1u == min(length_of(b), dims.segment_end) {
        return upstream + d_hidden[(direction * dims.batch + b) * OUTPUT + unit];
    }
    if is_reset(direction, row_offset(s + 1u) + b) {
        return upstream;
    }
    let through = operand_gradient_NEXT(direction, pre_row(direction, row_offset(s + 1u) + b), unit);
    if RECURRENT_DROPOUT {
        return upstream + through * factor_of_next(direction, b, unit);
    }
    return upstream + through;
}
