// rebuild: the gates of stage _STAGE again, over all rows of a block of steps at once: x part (left in `pre` by project) + R ·
// operand from the history + recurrent-only biases; and, for a stage that is not the last, its `out` into the history, the
// next stage's operand; of a normalising stage the product alone, for rebuild_normalise. What each row needs of the row before it is there, so nothing waits for anything.
//
// Parallel over: x = units, y = packed rows, z = direction. Every invocation owns all gates of one unit for PROJECT_ROWS rows
// in registers; the same order of additions as step_forward.

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> weights: array<Packed>;
// binding 2, pre: lib/keep_history.wgsl
// binding 3, history: lib/keep_history.wgsl
@group(0) @binding(4) var<storage, read> schedule: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * WIDTH + lane;
    let direction = group.z;
    use_direction(direction);
    let start = row_offset(dims.first);
    let rows = row_offset(dims.end) - start;
    let first = group.y * PROJECT_ROWS;
    if unit >= UNITS_STAGE || first >= rows {
        return;
    }
    // Rows past the edge compute a copy of the last one, which is not stored.
    var steps: array<u32, PROJECT_ROWS>;
    var operands: array<u32, PROJECT_ROWS>;
    var s = step_of(start + first);
    for (var i = 0u; i < PROJECT_ROWS; i++) {
        let r = start + min(first + i, rows - 1u);
        while r >= row_offset(s + 1u) {
            s++;
        }
        steps[i] = s;
        let b = r - row_offset(s);
        if FIRST_STAGE {
            operands[i] = history_before(direction, s, b) * HISTORY + STATE_COUNT * HIDDEN;
        } else {
            operands[i] = history_after(direction, s, b) * HISTORY + OPERAND_AT_STAGE;
        }
    }
    var acc: array<array<real, RECURRENT_STAGE>, PROJECT_ROWS>;
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE + unit;
    if IDENTITY_STAGE {
        for (var i = 0u; i < PROJECT_ROWS; i++) {
            acc[i][0] = history[operands[i] + unit];
        }
    }
    for (var k = 0u; k < select(DEPTH_STAGE, 0u, IDENTITY_STAGE); k++) {
        var r: array<vec4<real>, RECURRENT_STAGE>;
        for (var g = 0u; g < RECURRENT_STAGE; g++) {
            r[g] = weight4(at + (k * RECURRENT_STAGE + g) * UNITS_STAGE);
        }
        // R is 0 past K.
        let column = head_places_STAGE(head_start_STAGE(unit), k);
        for (var i = 0u; i < PROJECT_ROWS; i++) {
            let o = vec4<u32>(operands[i]) + column;
            let h = vec4<real>(history[o.x], history[o.y], history[o.z], history[o.w]);
            for (var g = 0u; g < RECURRENT_STAGE; g++) {
                acc[i][g] = fma(r[g].w, h.w, fma(r[g].z, h.z, fma(r[g].y, h.y, fma(r[g].x, h.x, acc[i][g]))));
            }
        }
    }
    let params = unit_params_STAGE(direction, unit);
    for (var i = 0u; i < PROJECT_ROWS; i++) {
        if first + i < rows {
            let r = start + first + i;
            let row = pre_row(direction, r);
            if NORMALISE_STAGE {
                for (var g = 0u; g < RECURRENT_STAGE; g++) {
                    pre[gate_at_STAGE(row, INPUT_STAGE + g, unit)] = acc[i][g];
                }
                continue;
            }
            let gates = gates_STAGE(acc[i], row, unit, params);
            if !LAST_STAGE {
                let b = r - row_offset(steps[i]);
                var memory: array<real, STATES>;
                for (var n = 0u; n < STATE_COUNT_STAGE; n++) {
                    memory[n] = history[history_before(direction, steps[i], b) * HISTORY + n * HIDDEN + unit];
                }
                if ZONEOUT {
                    use_zone(direction, steps[i], b, unit);
                }
                memory = states_before_STAGE(direction, row, unit, memory);
                let after = forward_STAGE(gates, memory, cell_params_STAGE(params));
                keep(direction, steps[i], b, LINK_AT_STAGE + unit, after.out);
            }
        }
    }
}
