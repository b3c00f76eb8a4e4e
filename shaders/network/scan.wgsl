// What the kernels of scans share: a rule's sizes and where its states are (src/rule.rs).
//
// Generated beside this: `Head` and `head_values` (what a step's coefficients have in common over the key indices), `coefficients`
// (d, a, b, k, q, r at a key index), `through_of` (r where it is the same for all key indices), `value_at` (v). VIRTUAL
// columns stand for the state before a chunk: with a correction one per row, else one whose elements are products of decays.

// What a kernel goes over: whole sequences, chunks from nothing (what a chunk does to any state), chunks from the states before them.
const WHOLE: u32 = 0u;
const SUMMARY: u32 = 1u;
const CHUNKS: u32 = 2u;

// A sequence's state: [heads, columns, K], and m behind them.
fn state_at(b: u32, h: u32, j: u32) -> u32 {
    return b * STATE + (h * COLUMNS + j) * KEY;
}

// States of chunks: [chunks, B, heads, columns, K].
fn kept_at(chunk: u32, b: u32, h: u32, j: u32) -> u32 {
    return (((chunk * at_batch() + b) * HEADS + h) * COLUMNS + j) * KEY;
}

// Summaries of chunks, from one on: [chunks, B, heads, columns and virtual ones, K].
fn summary_at(chunk: u32, b: u32, h: u32, j: u32) -> u32 {
    return ((((chunk - at_summary_first()) * at_batch() + b) * HEADS + h) * (COLUMNS + VIRTUAL) + j) * KEY;
}

// factor · value + sum, where a factor of 0 lets nothing pass, not even what is no number: a new episode's first step.
fn passed(factor: f32, value: f32, sum: f32) -> f32 {
    return select(fma(factor, value, sum), sum, factor == 0.0);
}

// The start of a virtual column: the identity's.
fn identity(column: u32, n: u32) -> f32 {
    return select(0.0, 1.0, !ERASE || column == n);
}

// v of a column: the divisor's is 1, a virtual one's 0.
fn column_value(row: u32, h: u32, j: u32) -> f32 {
    if j < VALUE {
        return value_at(row, h, j);
    }
    return select(0.0, 1.0, j < COLUMNS);
}
