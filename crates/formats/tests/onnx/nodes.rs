//! Recurrent nodes as exporters and published models have them: weights that other nodes make, states that only a run gives a shape.

use super::recorded::{array, arrays, error, folder};
use wgpu_rnn::{Device, Input, Layout, Session, Shape, Tensor};
use wgpu_rnn_formats::onnx::{OnnxFile, OnnxNode, Source};

/// y of a layer for x, both with `layout`'s axes.
fn run(node: &OnnxNode, layout: Layout, x: &Tensor<f64>, lengths: Option<&[usize]>) -> Tensor<f64> {
    let config = wgpu_rnn::RnnConfig { layout, ..node.config.clone() };
    let (time, batch) = match layout {
        Layout::TimeMajor => (x.shape[0], x.shape[1]),
        Layout::BatchFirst => (x.shape[1], x.shape[0]),
    };
    assert_eq!((&node.h0, &node.c0), (&Source::Absent, &Source::Absent), "{}", node.label.name);
    let mut session =
        Session::<f64>::new(&Device::cpu(), &config, Shape { time, batch }, &node.weights).expect("a session");
    session.forward(&Input { lengths, ..Input::new(x.view()) }).expect("a run").y
}

fn open(case: &str) -> OnnxFile {
    OnnxFile::open(folder(case).join("model.onnx")).expect("a model")
}

#[test]
fn nodes_of_published_models() {
    for (case, lengths) in [
        ("nodes/astrorapid_lstm_hard_sigmoid", None),
        ("nodes/dfn3_gru_zero_state_slice", None),
        ("nodes/pytorch_default_export", None),
        ("nodes/tashkeel_bigru_ragged", Some([40, 31, 12])),
    ] {
        let node = open(case).only_node().unwrap_or_else(|e| panic!("{case}: {e}"));
        let (x, y) = (array(&folder(case).join("x.npy")), array(&folder(case).join("y.npy")));
        let got = run(&node, Layout::TimeMajor, &x, lengths.as_ref().map(|l| &l[..]));
        let right = Tensor { shape: got.shape.clone(), data: turned(&y) };
        let error = error(&right, &got);
        assert!(error < 1e-5, "{case}: {error}");
    }
}

/// Y `[T, D, B, H]` as `[T, B, D·H]`; `[T, B, H]` as it is.
fn turned(y: &Tensor<f64>) -> Vec<f64> {
    let &[t, d, b, h] = &y.shape[..] else { return y.data.clone() };
    let rows = (0..t).flat_map(|t| (0..b).flat_map(move |b| (0..d).map(move |d| (t, b, d))));
    rows.flat_map(|(t, i, n)| &y.data[((t * d + n) * b + i) * h..][..h]).copied().collect()
}

/// One layer after the other.
#[test]
fn nodes_of_exporters() {
    for case in [
        "lstm_small_ts",
        "lstm_small_dyn",
        "lstm2_small_ts",
        "lstm2_small_dyn",
        "gru_small_dyn",
        "gru_static_ts",
        "static_dyn",
        "zero_ts",
        "nofold_ts",
        "rnn_ts",
        "fp16",
        "q",
    ] {
        let case = format!("exporters/{case}");
        let file = open(&case);
        let (inputs, outputs) = (arrays(&folder(&case), "in"), arrays(&folder(&case), "out"));
        let (x, y) = (inputs.values().next().expect("x"), outputs.values().next().expect("y"));
        let labels: Vec<_> = file.nodes().cloned().collect();
        assert!(!labels.is_empty(), "{case}");
        let last = labels.iter().fold(x.clone(), |x, label| {
            let node = file.node(&label.name).unwrap_or_else(|e| panic!("{case}: {e}"));
            run(&node, Layout::BatchFirst, &x, None)
        });
        let bound = if case.ends_with("fp16") {
            1e-3
        } else if case.ends_with("/q") {
            5e-2
        } else {
            1e-5
        };
        let error = error(y, &last);
        assert!(error < bound, "{case}: {error}");
    }
}

#[test]
fn models_of_ordinary_operators_have_no_nodes() {
    for case in ["exporters/rnn_dyn", "exporters/cell_ts"] {
        assert_eq!(open(case).nodes().count(), 0, "{case}");
    }
}
