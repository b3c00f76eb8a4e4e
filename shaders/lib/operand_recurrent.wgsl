// weight_backward of R of stage _STAGE: the operand is h of the step before for stage 0, else the `out` of the stage before;
// both from the history.
const GRADIENT_ROWS: u32 = RECURRENT_STAGE * UNITS_STAGE;

fn operand_width() -> u32 {
    return OPERAND_STAGE;
}

fn operand_value(direction: u32, s: u32, b: u32, k: u32) -> real {
    if FIRST_STAGE {
        return operand[history_before(direction, s, b) * HISTORY + STATE_COUNT * HIDDEN + k];
    }
    return operand[history_after(direction, s, b) * HISTORY + OPERAND_AT_STAGE + k];
}

fn gradient_column(m: u32) -> u32 {
    let g = m / UNITS_STAGE;
    let column = select(ONLY_AT_STAGE + (g - BOTH_STAGE) * UNITS_STAGE, PRE_AT_STAGE + g * UNITS_STAGE, g < BOTH_STAGE);
    return column + m % UNITS_STAGE;
}
