// loss_cross_entropy: per packed row w · (log sum exp(o) - o[target]), and its gradient w · (softmax(o) - onehot(target)). The
// row's weight w holds the mean's divisor; rows of weight 0 may have any target. One invocation per row, classes in ascending
// order, the largest output taken out first so that no exp overflows; invocations stride over the rows.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> outputs: array<real>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
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
        let label = min(targets[outer], PRE_WIDTH - 1u);
        let at = row * PRE_WIDTH;
        var largest = outputs[at];
        for (var k = 1u; k < PRE_WIDTH; k++) {
            largest = max(largest, outputs[at + k]);
        }
        var sum: real = 0.0;
        for (var k = 0u; k < PRE_WIDTH; k++) {
            sum += exp_of_negative(outputs[at + k] - largest);
        }
        losses[row] = weight * (log(sum) + largest - outputs[at + label]);
        if BACKWARD {
            for (var k = 0u; k < PRE_WIDTH; k++) {
                let share = exp_of_negative(outputs[at + k] - largest) / sum;
                d_outputs[at + k] = weight * (share - select(0.0, 1.0, k == label));
            }
        }
    }
}
