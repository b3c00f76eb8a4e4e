// weight_backward of W: the operand is x.
const GRADIENT_ROWS: u32 = PRE_WIDTH;
const ONE_OPERAND: bool = true;

fn operand_width() -> u32 {
    return dims.input_size;
}

// Where the operand of a row starts.
fn operand_at(direction: u32, s: u32, b: u32) -> u32 {
    return input_row(direction, row_offset(s) + b) * dims.input_size;
}

// Every row of the gradient sees the same columns.
fn operand_start(m: u32) -> u32 {
    return 0u;
}

fn gradient_column(m: u32) -> u32 {
    return m;
}
