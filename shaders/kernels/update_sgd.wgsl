// update_sgd: gradient descent without momentum; the equations are in src/optimiser.rs. Invocations stride over the parameters.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> hyper: array<real>;
@group(0) @binding(2) var<storage, read> gradient: array<real>;
@group(0) @binding(3) var<storage, read_write> parameters: array<real>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&parameters); i += groups.x * WIDTH) {
        parameters[i] = fma(-hyper[HYPER_RATE], hyper[HYPER_SCALE] * gradient[i], parameters[i]);
    }
}
