//! The code of the training examples, run with fewer steps: what it must have reached by then.

#[path = "../examples/training/plot.rs"]
mod plot;
#[path = "../examples/training/vanishing.rs"]
mod vanishing;

use plotters::prelude::SeriesLabelPosition;
use vanishing::{STEPS, Start};

/// The start of that name, measured.
fn norms(starts: &[Start], name: &str) -> Vec<f64> {
    let start = starts.iter().find(|s| s.name == name).unwrap();
    let norms = vanishing::measure(start).unwrap();
    assert_eq!(norms.len(), STEPS);
    assert!(norms.iter().all(|n| *n > 0.0 && n.is_finite()), "{name}");
    norms
}

#[test]
fn a_gradient_vanishes_in_every_cell_as_pytorch_starts_it() {
    for name in ["RNN", "GRU", "LSTM"] {
        let norms = norms(&vanishing::usual(), name);
        assert!(norms[STEPS - 1] < 1e-30 * norms[0], "{name}: {:e}", norms[STEPS - 1]);
        assert!((20..50).contains(&vanishing::millionth(&norms).unwrap()), "{name}");
    }
}

#[test]
fn a_forget_bias_of_1_helps_but_not_over_200_steps() {
    let [plain, biased] = ["LSTM", "LSTM, forget bias 1"].map(|name| norms(&vanishing::usual(), name));
    assert!(biased[STEPS - 1] > 1e15 * plain[STEPS - 1]);
    assert!(biased[STEPS - 1] < 1e-10 * biased[0]);
}

#[test]
fn an_open_gate_carries_a_gradient_over_200_steps() {
    let starts = vanishing::prepared();
    let rnn = norms(&starts, "RNN, orthogonal R");
    for name in ["GRU, open update gate", "LSTM, open forget gate"] {
        let norms = norms(&starts, name);
        assert_eq!(vanishing::millionth(&norms), None, "{name}");
        assert!(norms[STEPS - 1] > 1e-2 * norms[0], "{name}: {:e} of {:e}", norms[STEPS - 1], norms[0]);
        assert!(rnn[STEPS - 1] < 1e-4 * norms[STEPS - 1], "{name} and the RNN");
    }
}

#[test]
fn a_picture_has_its_curves_axes_and_legend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/picture.svg");
    let curve = plot::Curve { name: "falling".into(), colour: plot::COLOURS[0], points: vec![(0.0, 1.0), (5.0, 1e-9)] };
    let panel = plot::Panel {
        title: "a title".into(),
        axes: ["steps".into(), "norm".into()],
        log: true,
        range: None,
        curves: vec![curve],
        legend: SeriesLabelPosition::LowerLeft,
    };
    plot::write(&path, &[panel]).unwrap();
    let svg = std::fs::read_to_string(path).unwrap();
    for text in ["falling", "a title", "steps", "norm", "1e-8", "polyline"] {
        assert!(svg.contains(text), "{text}");
    }
    let unwritable = folder.path().join("new/folder");
    assert!(plot::write(&unwritable, &[]).is_err());
}
