// What the product of a gate's row of R of stage _STAGE is multiplied by, where rows have scales (SCALED).
fn row_scale_STAGE(direction: u32, unit: u32, g: u32) -> real {
    let n = PARAM_COUNT_STAGE + g;
    return exact(weights_plane(direction) * LAYER_WEIGHTS + PARAMS_AT_STAGE, (n / 4u) * UNITS_STAGE + unit, n % 4u);
}
