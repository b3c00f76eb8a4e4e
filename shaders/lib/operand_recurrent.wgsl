// weight_backward of R of stage _STAGE: the operand is h of the step before for stage 0, else the `out` of the stage before;
// both from the history. With heads (lib/heads.wgsl) row m sees the features of its unit's head only.
const GRADIENT_ROWS: u32 = RECURRENT_STAGE * UNITS_STAGE;
const ONE_OPERAND: bool = HEADS_STAGE == 1u;

fn operand_width() -> u32 {
    return HEAD_OPERAND_STAGE;
}

// Where the operand of a row starts.
fn operand_at(direction: u32, s: u32, b: u32) -> u32 {
    if FIRST_STAGE {
        return history_before(direction, s, b) * HISTORY + STATE_COUNT * HIDDEN;
    }
    return history_after(direction, s, b) * HISTORY + OPERAND_AT_STAGE;
}

// The feature that column 0 of row m sees.
fn operand_start(m: u32) -> u32 {
    return head_start_STAGE(m % UNITS_STAGE);
}

fn gradient_column(m: u32) -> u32 {
    let g = m / UNITS_STAGE;
    let column = select(ONLY_AT_STAGE + (g - BOTH_STAGE) * UNITS_STAGE, PRE_AT_STAGE + g * UNITS_STAGE, g < BOTH_STAGE);
    return column + m % UNITS_STAGE;
}
