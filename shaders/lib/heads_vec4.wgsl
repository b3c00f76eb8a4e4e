// The k-th four features that unit `unit` of stage _STAGE sees of the operand row that starts at vec4 `row`, where the operand is
// a buffer of vec4s: whole ones where heads begin at one, else gathered.
fn head_operand_STAGE(row: u32, unit: u32, k: u32) -> vec4<real> {
    let start = head_start_STAGE(unit);
    if HEADS_STAGE == 1u || HEAD_OPERAND_STAGE % 4u == 0u {
        return operand[row + start / 4u + k];
    }
    let at = vec4<u32>(row * 4u) + head_places_STAGE(start, k);
    let values = vec4<real>(
        operand[at.x / 4u][at.x % 4u],
        operand[at.y / 4u][at.y % 4u],
        operand[at.z / 4u][at.z % 4u],
        operand[at.w / 4u][at.w % 4u],
    );
    return head_values_STAGE(k, values);
}
