// operand_gradients_STAGE (lib/stage_backward.wgsl) for software rasterisers, the same bits: what all lanes of a subgroup read of d_pre
// they load together (lib/lanes.wgsl). A stage with one head, BACK_TILE a divisor of SUBGROUP; all lanes of a subgroup come here.

// Fours of units of all the tile's rows that a subgroup loads together.
const GRADIENTS_AT_ONCE_STAGE: u32 = SUBGROUP / BACK_TILE;

fn lane_gradients_STAGE(direction: u32, rows: array<u32, BACK_TILE>, features: array<u32, BACK_UNITS>) -> array<array<real, BACK_UNITS>, BACK_TILE> {
    var row = rows;
    var k = features;
    var sum: array<array<real, BACK_UNITS>, BACK_TILE>;
    let at = weights_plane(direction) * LAYER_WEIGHTS + WEIGHTS_AT_STAGE;
    var shared_row = row[0];
    for (var b = 1u; b < BACK_TILE; b++) {
        shared_row = select(shared_row, row[b], own_lane % BACK_TILE == b);
    }
    let shared_n = own_lane % SUBGROUP / BACK_TILE;
    for (var g = 0u; g < RECURRENT_STAGE; g++) {
        for (var first = 0u; first < HEAD_UNITS4_STAGE; first += GRADIENTS_AT_ONCE_STAGE) {
            // R is 0 past N.
            let own = min(vec4<u32>(0u, 1u, 2u, 3u) + (first + shared_n) * 4u, vec4<u32>(UNITS_STAGE - 1u));
            let i = recurrent_gate_at_STAGE(shared_row, g) + own;
            let shared_d = vec4<real>(pre[i.x], pre[i.y], pre[i.z], pre[i.w]);
            for (var j = 0u; j < GRADIENTS_AT_ONCE_STAGE; j++) {
                let n = first + j;
                if HEAD_UNITS4_STAGE % GRADIENTS_AT_ONCE_STAGE != 0u && n >= HEAD_UNITS4_STAGE {
                    break;
                }
                var r: array<vec4<real>, BACK_UNITS>;
                for (var u = 0u; u < BACK_UNITS; u++) {
                    r[u] = weight4(at + (g * HEAD_UNITS4_STAGE + n) * OPERAND_STAGE + k[u]);
                }
                for (var b = 0u; b < BACK_TILE; b++) {
                    let d = from_lane(shared_d, j * BACK_TILE + b);
                    for (var u = 0u; u < BACK_UNITS; u++) {
                        sum[b][u] = fma(r[u].w, d.w, fma(r[u].z, d.z, fma(r[u].y, d.y, fma(r[u].x, d.x, sum[b][u]))));
                    }
                }
            }
        }
    }
    return sum;
}
