// weight_backward of W: the operand is x.
const GRADIENT_ROWS: u32 = PRE_WIDTH;
const ONE_OPERAND: bool = true;

fn operand_width() -> u32 {
    return dims.input_size;
}

fn operand_value(direction: u32, s: u32, b: u32, k: u32) -> real {
    return operand[outer_row(direction, row_offset(s) + b) * dims.input_size + k];
}

// Every row of the gradient sees the same columns.
fn operand_start(m: u32) -> u32 {
    return 0u;
}

fn gradient_place(group: vec3<u32>, lane: u32) -> vec2<u32> {
    return vec2<u32>(group.x * WIDTH + lane, group.y * WEIGHT_ROWS);
}

fn gradient_column(m: u32) -> u32 {
    return m;
}
