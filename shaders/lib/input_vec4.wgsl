// x with I divisible by 4: 16-byte loads.

@group(0) @binding(1) var<storage, read> x: array<vec4<real>>;

fn load_input(row: u32, k4: u32) -> vec4<real> {
    return x[row * (dims.input_size / 4u) + k4];
}
