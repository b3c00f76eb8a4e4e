// loss_mean_squared: per packed row w · sum over the outputs of (o - target)^2, and its gradient. The row's weight w holds the
// mean's divisor. One invocation per row; invocations stride over the rows.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> outputs: array<real>;
@group(0) @binding(2) var<storage, read> targets: array<real>;
@group(0) @binding(3) var<storage, read> target_weights: array<real>;
@group(0) @binding(4) var<storage, read_write> losses: array<real>;
@group(0) @binding(5) var<storage, read_write> d_outputs: array<real>;
@group(0) @binding(6) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let rows = row_offset(dims.end);
    for (var row = id.x; row < rows; row += groups.x * WIDTH) {
        let outer = outer_row(0u, row);
        let weight = target_weights[outer];
        var sum: real = 0.0;
        for (var k = 0u; k < PRE_WIDTH; k++) {
            let error = outputs[row * PRE_WIDTH + k] - targets[outer * PRE_WIDTH + k];
            sum = fma(error, error, sum);
            if BACKWARD {
                d_outputs[row * PRE_WIDTH + k] = 2.0 * weight * error;
            }
        }
        losses[row] = weight * sum;
    }
}
