// weight_backward of R of stage _STAGE: the operand is h of the step before for stage 0, else the `out` of the stage before;
// both from the history. With heads (lib/heads.wgsl) row m sees the features of its unit's head only.
const GRADIENT_ROWS: u32 = RECURRENT_STAGE * UNITS_STAGE;
const ONE_OPERAND: bool = HEADS_STAGE == 1u;

fn operand_width() -> u32 {
    return HEAD_OPERAND_STAGE;
}

fn operand_value(direction: u32, s: u32, b: u32, k: u32) -> real {
    if FIRST_STAGE {
        return operand[history_before(direction, s, b) * HISTORY + STATE_COUNT * HIDDEN + k];
    }
    return operand[history_after(direction, s, b) * HISTORY + OPERAND_AT_STAGE + k];
}

// The feature that column 0 of row m sees.
fn operand_start(m: u32) -> u32 {
    return head_start_STAGE(m % UNITS_STAGE);
}

// Column and first row of an invocation. Where a row is short, a workgroup has several stretches of rows.
fn gradient_place(group: vec3<u32>, lane: u32) -> vec2<u32> {
    if GRADIENT_FOLD_STAGE == 1u {
        return vec2<u32>(group.x * WIDTH + lane, group.y * WEIGHT_ROWS);
    }
    let stretch = lane / (HEAD_OPERAND_STAGE + 1u);
    if stretch >= GRADIENT_FOLD_STAGE {
        return vec2<u32>(HEAD_OPERAND_STAGE + 1u, 0u);
    }
    return vec2<u32>(lane % (HEAD_OPERAND_STAGE + 1u), (group.y * GRADIENT_FOLD_STAGE + stretch) * WEIGHT_ROWS);
}

fn gradient_column(m: u32) -> u32 {
    let g = m / UNITS_STAGE;
    let column = select(ONLY_AT_STAGE + (g - BOTH_STAGE) * UNITS_STAGE, PRE_AT_STAGE + g * UNITS_STAGE, g < BOTH_STAGE);
    return column + m % UNITS_STAGE;
}
