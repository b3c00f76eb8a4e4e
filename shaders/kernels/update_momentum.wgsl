// update_momentum: gradient descent with momentum; the equations are in src/optimiser.rs. Invocations stride over the parameters.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> hyper: array<real>;
@group(0) @binding(2) var<storage, read> gradient: array<real>;
@group(0) @binding(3) var<storage, read_write> parameters: array<real>;
@group(0) @binding(4) var<storage, read_write> m: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&parameters); i += groups.x * WIDTH) {
        let velocity = fma(hyper[HYPER_BETA1], m[i], hyper[HYPER_SCALE] * gradient[i]);
        m[i] = velocity;
        parameters[i] = fma(-hyper[HYPER_RATE], velocity, parameters[i]);
    }
}
