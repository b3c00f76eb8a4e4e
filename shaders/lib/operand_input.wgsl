// weight_backward of W: the operand is x.
const GRADIENT_ROWS: u32 = PRE_WIDTH;

fn operand_width() -> u32 {
    return dims.input_size;
}

fn operand_value(direction: u32, s: u32, b: u32, k: u32) -> real {
    return operand[outer_row(direction, row_offset(s) + b) * dims.input_size + k];
}

fn gradient_column(m: u32) -> u32 {
    return m;
}
