// The parts of a stage's backward step that both strategies share; instantiated once per stage, `_NEXT` being the stage whose
// operand this stage's `out` is: the following one at the same step, or stage 0 at the next step.
//
// `weights` is the transposed pack here: per stage R^T [gate][N/4][K] in vec4s (four units of one gate, for one k; with heads, N/n:
// the units of k's head), 0 past N, then the unit parameters as in lib/stage.wgsl.

// What a row of `pre` keeps of a unit's gates.
fn read_kept_STAGE(row: u32, unit: u32) -> array<real, PRE_STAGE> {
    var gates: array<real, PRE_STAGE>;
    for (var g = 0u; g < PRE_STAGE; g++) {
        gates[g] = pre[gate_at_STAGE(row, g, unit)];
    }
    return gates;
}

fn read_gates_STAGE(direction: u32, row: u32, unit: u32) -> array<real, PRE_STAGE> {
    let kept = read_kept_STAGE(row, unit);
    if NORMALISE_STAGE {
        return scaled_STAGE(kept, unit_params_STAGE(direction, unit));
    }
    return kept;
}

fn recurrent_gate_at_STAGE(row: u32, g: u32) -> u32 {
    let column = select(ONLY_AT_STAGE + (g - BOTH_STAGE) * UNITS_STAGE, PRE_AT_STAGE + g * UNITS_STAGE, g < BOTH_STAGE);
    return row * ROW_WIDTH + column;
}

// The first unit that sees feature k of the operand.
fn head_unit_STAGE(k: u32) -> u32 {
    if HEADS_STAGE == 1u {
        return 0u;
    }
    return k / HEAD_OPERAND_STAGE * HEAD_UNITS_STAGE;
}

// R^T d_pre of the stage at one row of `pre`, for one k of its operand. The row holds gradients by now.
fn operand_gradient_STAGE(direction: u32, row: u32, k: u32) -> real {
    if IDENTITY_STAGE {
        return pre[recurrent_gate_at_STAGE(row, 0u) + k];
    }
    var sum: real = 0.0;
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + k;
    for (var g = 0u; g < RECURRENT_STAGE; g++) {
        let d = recurrent_gate_at_STAGE(row, g) + head_unit_STAGE(k);
        for (var n = 0u; n < HEAD_UNITS4_STAGE; n++) {
            let r = weight4(at + (g * HEAD_UNITS4_STAGE + n) * OPERAND_STAGE);
            let i = vec4<u32>(d) + min(vec4<u32>(0u, 1u, 2u, 3u) + n * 4u, vec4<u32>(HEAD_UNITS_STAGE - 1u));
            sum = fma(r.w, pre[i.w], fma(r.z, pre[i.z], fma(r.y, pre[i.y], fma(r.x, pre[i.x], sum))));
        }
    }
    return sum;
}

// The same for BACK_TILE rows and BACK_UNITS features at once, in registers; the same order of additions.
fn operand_gradients_STAGE(direction: u32, rows: array<u32, BACK_TILE>, features: array<u32, BACK_UNITS>) -> array<array<real, BACK_UNITS>, BACK_TILE> {
    var row = rows;
    var k = features;
    var sum: array<array<real, BACK_UNITS>, BACK_TILE>;
    if IDENTITY_STAGE {
        for (var b = 0u; b < BACK_TILE; b++) {
            for (var u = 0u; u < BACK_UNITS; u++) {
                sum[b][u] = pre[recurrent_gate_at_STAGE(row[b], 0u) + k[u]];
            }
        }
        return sum;
    }
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE;
    for (var g = 0u; g < RECURRENT_STAGE; g++) {
        for (var n = 0u; n < HEAD_UNITS4_STAGE; n++) {
            var r: array<vec4<real>, BACK_UNITS>;
            for (var u = 0u; u < BACK_UNITS; u++) {
                r[u] = weight4(at + (g * HEAD_UNITS4_STAGE + n) * OPERAND_STAGE + k[u]);
            }
            let own = min(vec4<u32>(0u, 1u, 2u, 3u) + n * 4u, vec4<u32>(HEAD_UNITS_STAGE - 1u));
            for (var b = 0u; b < BACK_TILE; b++) {
                let i = recurrent_gate_at_STAGE(row[b], g) + own;
                var d: vec4<real>;
                if HEADS_STAGE == 1u {
                    d = vec4<real>(pre[i.x], pre[i.y], pre[i.z], pre[i.w]);
                }
                for (var u = 0u; u < BACK_UNITS; u++) {
                    if HEADS_STAGE > 1u {
                        let j = i + head_unit_STAGE(k[u]);
                        d = vec4<real>(pre[j.x], pre[j.y], pre[j.z], pre[j.w]);
                    }
                    sum[b][u] = fma(r[u].w, d.w, fma(r[u].z, d.z, fma(r[u].y, d.y, fma(r[u].x, d.x, sum[b][u]))));
                }
            }
        }
    }
    return sum;
}
