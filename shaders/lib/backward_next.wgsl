// What the product that reads `out` of stage _STAGE passes back, for a tile of the sequences that run at step s: that of the next
// stage, or for the last stage of stage 0 at step s + 1 (where a sequence does not run there, a value to be ignored).
fn gather_STAGE(direction: u32, s: u32, tile: u32, units: array<u32, BACK_UNITS>) -> array<array<real, BACK_UNITS>, BACK_TILE> {
    var at = s;
    if LAST_STAGE {
        at = s + 1u;
        if at >= dims.segment_end {
            return array<array<real, BACK_UNITS>, BACK_TILE>();
        }
    }
    let running = active_at(at);
    if tile >= running {
        return array<array<real, BACK_UNITS>, BACK_TILE>();
    }
    let first = row_offset(at);
    var rows: array<u32, BACK_TILE>;
    for (var b = 0u; b < BACK_TILE; b++) {
        rows[b] = pre_row(direction, first + min(tile + b, running - 1u));
    }
    return operand_gradients_NEXT(direction, rows, units);
}

// The gradient of `out` of stage _STAGE for one unit of sequence b at step s: what the next stage's product passes back, or
// for the last stage the gradient of y plus that of h from step s + 1 (from d_hidden at the end of the sequence or segment; none
// where an episode begins there). `factor`: the recurrent mask's.
fn out_gradient_STAGE(direction: u32, s: u32, b: u32, unit: u32, through: real, factor: real) -> real {
    if !LAST_STAGE {
        return through;
    }
    var upstream: real = 0.0;
    if WRITE_Y {
        upstream = dy[output_row(direction, row_offset(s) + b) * OUTPUT + unit];
    }
    if s + 1u == min(length_of(b), dims.segment_end) {
        return upstream + d_hidden[(plane(direction) * dims.batch + b) * OUTPUT + unit];
    }
    if is_reset(direction, row_offset(s + 1u) + b) {
        return upstream;
    }
    if RECURRENT_DROPOUT {
        return upstream + through * factor;
    }
    return upstream + through;
}
