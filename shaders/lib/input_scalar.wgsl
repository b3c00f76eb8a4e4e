// x with any I: scalar loads, 0 past the end of the row.

@group(0) @binding(1) var<storage, read> x: array<act>;

fn load_input(row: u32, k4: u32) -> vec4<real> {
    let at = row * dims.input_size;
    let last = dims.input_size - 1u;
    let k = vec4<u32>(0u, 1u, 2u, 3u) + k4 * 4u;
    let i = at + min(k, vec4<u32>(last));
    let v = vec4<real>(real(x[i.x]), real(x[i.y]), real(x[i.z]), real(x[i.w]));
    return select(vec4<real>(), v, k <= vec4<u32>(last));
}
