//! What a cell's WGSL calls: one `act_<n>` and `slope_<n>` per activation of the cell, generated, so that the choice of the
//! configuration is made when the pipeline is.

use crate::model::cell::{Activation, CellOption};
use crate::model::stack::RnnConfig;
use std::fmt::Write as _;

/// The elementwise functions, `act_0(x)`, `slope_0(x)`, … on top of them, and `use_direction`, which every kernel that calls
/// the cell calls first.
pub(super) fn functions(config: &RnnConfig) -> String {
    let sets: Vec<Vec<Activation>> = (0..config.directions()).map(|d| config.activations_of(d)).collect();
    let mut text = String::from(include_str!("../../shaders/lib/math.wgsl"));
    if sets.iter().flatten().any(|a| !matches!(a, Activation::Sigmoid | Activation::Tanh | Activation::Relu)) {
        text.push_str(include_str!("../../shaders/lib/activations.wgsl"));
    }
    // Read only where the directions differ: elsewhere nothing is left to choose on the device.
    let differ = sets.iter().any(|set| *set != sets[0]);
    let body = if differ { "\n    is_reverse = direction == 1u;\n" } else { "" };
    if differ {
        text.push_str("\nvar<private> is_reverse: bool;\n");
    }
    let _ = write!(text, "\nfn use_direction(direction: u32) {{{body}}}\n");
    for n in 0..sets[0].len() {
        for (name, suffix) in [("act", ""), ("slope", "_slope")] {
            let calls: Vec<String> = sets.iter().map(|set| call(set[n], suffix, config.clip)).collect();
            let _ = write!(text, "\nfn {name}_{n}(x: real) -> real {{\n");
            if calls.iter().any(|call| *call != calls[0]) {
                let _ = writeln!(text, "    if is_reverse {{\n        return {};\n    }}", calls[1]);
            }
            let _ = write!(text, "    return {};\n}}\n", calls[0]);
        }
    }
    if config.cell.options.contains(&CellOption::CellClip) {
        let limit = finite(config.cell_clip);
        let clip = limit.as_ref().map_or("c".into(), |l| format!("nan_or(c, clamp(c, -{l}, {l}))"));
        let back = limit.map_or("d".into(), |l| format!("nan_or(c, within(c, {l}, d))"));
        let _ = write!(text, "\nfn clip_cell(c: real) -> real {{\n    return {clip};\n}}\n");
        let _ = write!(text, "\nfn clip_cell_back(c: real, d: real) -> real {{\n    return {back};\n}}\n");
    }
    if config.cell.options.contains(&CellOption::InputForget) {
        // f, its derivative by its own argument, and what c' gains by i.
        let [gate, slope, effect] = match config.input_forget {
            true => ["1.0 - i", "0.0", "g - c"],
            false => ["act_0(a)", "slope_0(a)", "g"],
        };
        let _ = write!(text, "\nfn forget_gate(i: real, a: real) -> real {{\n    return {gate};\n}}\n");
        let _ = write!(text, "\nfn forget_slope(a: real) -> real {{\n    return {slope};\n}}\n");
        let _ = write!(text, "\nfn input_effect(g: real, c: real) -> real {{\n    return {effect};\n}}\n");
    }
    text
}

/// A threshold that clips something, as WGSL writes it (where infinity has no name).
fn finite(clip: Option<f32>) -> Option<String> {
    clip.filter(|c| c.is_finite()).map(number)
}

fn call(activation: Activation, suffix: &str, clip: Option<f32>) -> String {
    let name = match activation {
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "safe_tanh",
        Activation::Relu => "relu",
        Activation::Affine { .. } => "affine",
        Activation::LeakyRelu { .. } => "leaky_relu",
        Activation::ThresholdedRelu { .. } => "thresholded_relu",
        Activation::ScaledTanh { .. } => "scaled_tanh",
        Activation::HardSigmoid { .. } => "hard_sigmoid",
        Activation::Elu { .. } => "elu",
        Activation::Softsign => "softsign",
        Activation::Softplus => "softplus",
    };
    let arguments: String = activation.parameters().into_iter().map(|p| format!(", {}", number(p))).collect();
    let value = match finite(clip) {
        None => format!("{name}{suffix}(x{arguments})"),
        Some(l) if suffix.is_empty() => format!("{name}(clamp(x, -{l}, {l}){arguments})"),
        Some(l) => format!("within(x, {l}, {name}{suffix}(x{arguments}))"),
    };
    format!("nan_or(x, {value})")
}

/// All digits of an f32: nothing is rounded on the way.
fn number(value: f32) -> String {
    format!("{:e}", f64::from(value))
}
