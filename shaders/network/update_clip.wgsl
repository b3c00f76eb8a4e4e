// update_clip: the norm of the gradients of all of a network's parameters from their sums of squares, and what every update multiplies
// the gradients by so that it is at most the given one: min(1, max / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_. A single
// invocation.

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>;
@group(0) @binding(2) var<storage, read_write> hyper: array<f32>;

@compute @workgroup_size(1)
fn main() {
    var total = 0.0;
    for (var n = 0u; n < SUMS; n++) {
        total += sums[n];
    }
    let length = sqrt(total);
    norm[0] = length;
    let scale = min(1.0, hyper[HYPER_MAX_NORM] / (length + 1e-6));
    // NaN in, NaN out, tested by bits: min may give its other argument for NaN.
    hyper[HYPER_SCALE] = select(scale, total, (bitcast<u32>(total) & 0x7fffffffu) > 0x7f800000u);
}
