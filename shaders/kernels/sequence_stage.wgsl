// The k-th four features that a unit sees of the operand row at `row` of the workgroup memory.
fn head_operand_STAGE(row: u32, unit: u32, k: u32) -> vec4<real> {
    if HEADS_STAGE == 1u {
        let i = row + k * 4u;
        return vec4<real>(shared_operand[i], shared_operand[i + 1u], shared_operand[i + 2u], shared_operand[i + 3u]);
    }
    let i = row + head_places_STAGE(head_start_STAGE(unit), k);
    return head_values_STAGE(k, vec4<real>(shared_operand[i.x], shared_operand[i.y], shared_operand[i.z], shared_operand[i.w]));
}

// One stage of one step for the workgroup's tile, from one side of the workgroup memory to the other.
fn stage_STAGE(p: Place, side: u32) {
    let own = min(p.unit, UNITS_STAGE - 1u);
    let src = side * TILE * SHARED_STRIDE;
    let dst = (1u - side) * TILE * SHARED_STRIDE;
    var acc: array<array<real, RECURRENT_STAGE>, TILE>;
    if IDENTITY_STAGE {
        for (var b = 0u; b < TILE; b++) {
            acc[b][0] = shared_operand[src + b * SHARED_STRIDE + own];
        }
    } else {
        let at = weights_plane(p.direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + own;
        for (var k = 0u; k < DEPTH_STAGE; k++) {
            var r: array<vec4<real>, RECURRENT_STAGE>;
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                r[g] = weight4(at + (k * RECURRENT_STAGE + g) * UNITS_STAGE);
            }
            for (var b = 0u; b < TILE; b++) {
                let h = head_operand_STAGE(src + b * SHARED_STRIDE, own, k);
                for (var g = 0u; g < RECURRENT_STAGE; g++) {
                    acc[b][g] = fma(r[g].w, h.w, fma(r[g].z, h.z, fma(r[g].y, h.y, fma(r[g].x, h.x, acc[b][g]))));
                }
            }
        }
        if SCALED {
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                let scale = row_scale_STAGE(p.direction, own, g);
                for (var b = 0u; b < TILE; b++) {
                    acc[b][g] *= scale;
                }
            }
        }
    }
    if NORMALISE_STAGE {
        normalise_STAGE(p, &acc);
    }
    let params = unit_params_STAGE(p.direction, own);
    for (var b = 0u; b < TILE; b++) {
        if p.tile + b < p.running {
            if p.unit < UNITS_STAGE {
                let gates = gates_STAGE(acc[b], p.row + p.tile + b, p.unit, params);
                if ZONEOUT {
                    use_zone(p.direction, p.step, p.tile + b, p.unit);
                }
                let after = forward_STAGE(gates, memory[b], cell_params_STAGE(params));
                memory[b] = after.state;
                var seen = after.out;
                if LAST_STAGE && RECURRENT_DROPOUT {
                    seen *= own_factors[b];
                }
                shared_operand[dst + b * SHARED_STRIDE + p.unit] = seen;
                keep_stage_STAGE(p.direction, p.step, p.tile + b, p.unit, memory[b], seen);
                if LAST_STAGE {
                    last[b] = after.out;
                }
                if LAST_STAGE && WRITE_Y {
                    y[output_row(p.direction, p.first_row + p.tile + b) * UNITS_STAGE + p.unit] = act(after.out);
                }
            } else if p.unit < PADDED_STAGE {
                shared_operand[dst + b * SHARED_STRIDE + p.unit] = 0.0;
            }
        }
    }
}
