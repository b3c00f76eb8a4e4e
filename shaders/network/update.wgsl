// update: one step of an optimiser over all parameters of a network's own operations; the equations are in src/model/optimiser.rs.
//
// `hyper` is what the host writes before every update, and behind it, as bits, where the gradient begins in the arena and how many
// parameters there are. MOMENTS numbers are remembered of every parameter, in planes.
//
// Parallel over parameters.

@group(0) @binding(0) var<storage, read> hyper: array<f32>;
@group(0) @binding(1) var<storage, read> arena: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> moments: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let first = bitcast<u32>(hyper[HYPER_COUNT]);
    let count = bitcast<u32>(hyper[HYPER_COUNT + 1u]);
    for (var i = id.x; i < count; i += groups.x * 64u) {
        let g = hyper[HYPER_SCALE] * arena[first + i];
        if MOMENTS == 0u {
            params[i] = fma(-hyper[HYPER_RATE], g, params[i]);
        } else if MOMENTS == 1u {
            let velocity = fma(hyper[HYPER_BETA1], moments[i], g);
            moments[i] = velocity;
            params[i] = fma(-hyper[HYPER_RATE], velocity, params[i]);
        } else {
            let mean = fma(hyper[HYPER_BETA1], moments[i], hyper[HYPER_REST1] * g);
            let square = fma(hyper[HYPER_BETA2], moments[count + i], hyper[HYPER_REST2] * g * g);
            moments[i] = mean;
            moments[count + i] = square;
            let divisor = sqrt(square) / hyper[HYPER_CORRECTION] + hyper[HYPER_EPSILON];
            params[i] = fma(-hyper[HYPER_RATE], mean / divisor, hyper[HYPER_KEEP] * params[i]);
        }
    }
}
