// x with I divisible by 4: loads of four.

@group(0) @binding(1) var<storage, read> x: array<vec4<act>>;

fn load_input(row: u32, k4: u32) -> vec4<real> {
    return vec4<real>(x[row * (dims.input_size / 4u) + k4]);
}
