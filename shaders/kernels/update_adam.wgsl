// update_adam: Adam, and AdamW where HYPER_KEEP is less than 1; the equations are in src/optimiser.rs. Invocations stride over
// the parameters.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> hyper: array<real>;
@group(0) @binding(2) var<storage, read> gradient: array<real>;
@group(0) @binding(3) var<storage, read_write> parameters: array<real>;
@group(0) @binding(4) var<storage, read_write> m: array<real>;
@group(0) @binding(5) var<storage, read_write> v: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&parameters); i += groups.x * WIDTH) {
        let g = hyper[HYPER_SCALE] * gradient[i];
        let mean = fma(hyper[HYPER_BETA1], m[i], hyper[HYPER_REST1] * g);
        let square = fma(hyper[HYPER_BETA2], v[i], hyper[HYPER_REST2] * g * g);
        m[i] = mean;
        v[i] = square;
        let divisor = sqrt(square) / hyper[HYPER_CORRECTION] + hyper[HYPER_EPSILON];
        parameters[i] = fma(-hyper[HYPER_RATE], mean / divisor, hyper[HYPER_KEEP] * parameters[i]);
    }
}
