// operand_gradients_STAGE (lib/stage_backward.wgsl) for GPUs, the same bits: what a workgroup's lanes all read of d_pre passes
// through workgroup memory, so that a load serves all of them. A stage with one head; all lanes of the workgroup come here.

fn shared_gradients_STAGE(direction: u32, rows: array<u32, BACK_TILE>, features: array<u32, BACK_UNITS>) -> array<array<real, BACK_UNITS>, BACK_TILE> {
    var row = rows;
    var sum: array<array<real, BACK_UNITS>, BACK_TILE>;
    var weights_at = features;
    for (var u = 0u; u < BACK_UNITS; u++) {
        weights_at[u] += weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE;
    }
    // Gate after gate, four units after four.
    let depth = RECURRENT_STAGE * HEAD_UNITS4_STAGE;
    for (var first = 0u; first < depth; first += GRADIENT_CHUNK) {
        let count = min(depth - first, GRADIENT_CHUNK);
        // What was read before is needed no more.
        workgroupBarrier();
        for (var b = 0u; b < BACK_TILE; b++) {
            for (var n = shared_lane; n < count; n += WIDTH) {
                let g = (first + n) / HEAD_UNITS4_STAGE;
                let unit = (first + n) % HEAD_UNITS4_STAGE * 4u;
                let i = recurrent_gate_at_STAGE(row[b], g) + unit;
                if UNITS_STAGE % 4u == 0u {
                    gradients[b * GRADIENT_CHUNK + n] = vec4<real>(pre[i], pre[i + 1u], pre[i + 2u], pre[i + 3u]);
                } else {
                    // R is 0 past N.
                    let j = i + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(UNITS_STAGE - 1u - unit));
                    gradients[b * GRADIENT_CHUNK + n] = vec4<real>(pre[j.x], pre[j.y], pre[j.z], pre[j.w]);
                }
            }
        }
        workgroupBarrier();
        // Four at a time, so that their loads are on their way together.
        var n = 0u;
        for (; n + 4u <= count; n += 4u) {
            // A power of two less one: a bound that compilers see, for constant offsets from one address.
            let from_n = n & (GRADIENT_CHUNK - 1u);
            for (var i = 0u; i < 4u; i++) {
                add_gradients_STAGE(&sum, weights_at, i * OPERAND_STAGE, from_n + i);
            }
            for (var u = 0u; u < BACK_UNITS; u++) {
                weights_at[u] += 4u * OPERAND_STAGE;
            }
        }
        for (; n < count; n++) {
            add_gradients_STAGE(&sum, weights_at, 0u, n);
            for (var u = 0u; u < BACK_UNITS; u++) {
                weights_at[u] += OPERAND_STAGE;
            }
        }
    }
    return sum;
}

fn add_gradients_STAGE(sum: ptr<function, array<array<real, BACK_UNITS>, BACK_TILE>>, weights_at: array<u32, BACK_UNITS>, offset: u32, n: u32) {
    var at = weights_at;
    var r: array<vec4<real>, BACK_UNITS>;
    for (var u = 0u; u < BACK_UNITS; u++) {
        r[u] = weight4(at[u] + offset);
    }
    for (var b = 0u; b < BACK_TILE; b++) {
        let d = gradients[b * GRADIENT_CHUNK + n];
        for (var u = 0u; u < BACK_UNITS; u++) {
            (*sum)[b][u] = fma(r[u].w, d.w, fma(r[u].z, d.z, fma(r[u].y, d.y, fma(r[u].x, d.x, (*sum)[b][u]))));
        }
    }
}
