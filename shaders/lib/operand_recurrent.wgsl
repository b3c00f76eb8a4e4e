// weight_backward of R of stage _STAGE: the operand is h of the step before (y, or h0 at the first step) for stage 0, else
// the `out` that the stage before kept for every row.
const GRADIENT_ROWS: u32 = RECURRENT_STAGE * UNITS_STAGE;

fn operand_width() -> u32 {
    return OPERAND_STAGE;
}

fn operand_value(direction: u32, s: u32, b: u32, k: u32) -> real {
    let z = dims.layer * DIRECTIONS + direction;
    if !FIRST_STAGE {
        return operand[(z * dims.time * dims.batch + row_offset(s) + b) * OPERAND_PADDED_STAGE + k];
    }
    if s == 0u {
        return h0[(z * dims.batch + order_of(b)) * OUTPUT + k];
    }
    return operand[(outer_row(direction, row_offset(s - 1u) + b) * DIRECTIONS + direction) * OUTPUT + k];
}

fn gradient_column(m: u32) -> u32 {
    let g = m / UNITS_STAGE;
    let column = select(ONLY_AT_STAGE + (g - BOTH_STAGE) * UNITS_STAGE, PRE_AT_STAGE + g * UNITS_STAGE, g < BOTH_STAGE);
    return column + m % UNITS_STAGE;
}
