// The same where rows are whole vec4s and `column` begins one: one load.

@group(0) @binding(2) var<storage, read> pre: array<vec4<real>>;

fn load_pre(row: u32, column: u32) -> vec4<real> {
    return pre[(row * ROW_WIDTH + column) / 4u];
}
