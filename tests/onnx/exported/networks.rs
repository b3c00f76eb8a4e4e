//! Networks, operation by operation.

use super::cases::{self, Net, net_inputs, nets, run_net};
use super::{Named, largest_error, numbers, read_back};
use wgpu_rnn::network::Builder;
use wgpu_rnn::{Error, Loss, RnnConfig, rules};
use wgpu_rnn_formats::onnx::{Export, OnnxFile};

/// The model's inputs: those that its outputs need.
fn needed(net: &Net) -> Named {
    net_inputs(net).into_iter().filter(|(name, _)| name != "target").collect()
}

/// What the reader refuses, for it leaves out what is past an end: a pool of the first step that it finds among all steps, and a
/// step before.
const NOT_READ: [&str; 2] = ["gated_ragged", "over_time_ragged"];

#[test]
fn a_network_that_is_written_is_read_back() {
    for (name, net) in nets() {
        let model =
            net.export.network_bytes(&net.network, &net.params(), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let got = read_back(&model, &needed(&net));
        if NOT_READ.contains(&name) {
            assert!(matches!(got, Err(Error::Unsupported { .. })), "{name}: {got:?}");
            continue;
        }
        let error = largest_error(name, &got.unwrap_or_else(|e| panic!("{name}: {e}")), &run_net::<f64>(&net));
        // ε of a norm is f32 in ONNX.
        assert!(error < if name == "norms" { 1e-10 } else { 1e-12 }, "{name}: {error:e}");
    }
}

#[test]
fn any_value_may_be_an_output() {
    let net = cases::label();
    let model = net.export.network_bytes(&net.network, &net.params(), &["down", "y"]).expect("a model");
    let got = read_back(&model, &net_inputs(&net)).expect("a run");
    assert_eq!(
        got.iter().map(|(name, t)| (name.as_str(), &t.shape[..])).collect::<Vec<_>>(),
        [("down", &[3, 4][..]), ("y", &[5, 3, 6])]
    );
    let error = net.export.network_bytes(&net.network, &net.params(), &["down", "up"]).expect_err("no such value");
    assert!(error.to_string().contains("one of its outputs logits, y, got up"), "{error}");
    let error = net.export.network_bytes(&net.network, &net.params()[1..], &[]).expect_err("a parameter too few");
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[test]
fn states_of_stacks_go_in_and_out() {
    let net = Net { export: Export { states: true, lengths: false }, ..cases::gated() };
    let model = net.export.network_bytes(&net.network, &net.params(), &["two"]).expect("a model");
    let file = OnnxFile::from_bytes("m.onnx", model.clone()).expect("a model");
    let names = |values: Vec<wgpu_rnn_formats::onnx::OnnxValue>| values.into_iter().map(|v| v.name).collect::<Vec<_>>();
    assert_eq!(names(file.inputs()), ["x", "one.h0", "one.c0", "two.h0"]);
    assert_eq!(names(file.outputs()), ["two", "one.hn", "one.cn", "two.hn"]);
    // From zeros: the numbers of a run without states.
    let mut inputs: Named = net_inputs(&net).into_iter().take(1).collect();
    for (name, width) in [("one.h0", 4), ("one.c0", 4), ("two.h0", 3)] {
        let zeros = wgpu_rnn::Tensor { data: vec![0.0; 3 * width], shape: vec![1, 3, width] };
        inputs.push((name.into(), zeros));
    }
    let got = read_back(&model, &inputs).expect("a run");
    let expected: Named = run_net::<f64>(&net).into_iter().filter(|(name, _)| name == "two").collect();
    assert!(largest_error("two", &got[..1].to_vec(), &expected) < 1e-12);
}

#[test]
fn what_onnx_does_not_have_is_named() {
    let refused = |b: Builder, outputs: &[&str], export: Export| {
        let network = b.finish().expect("a network");
        let params = numbers(1, &[network.parameter_count()]).data;
        match export.network_bytes(&network, &params, outputs) {
            Err(e @ Error::Unsupported { .. }) => e.to_string(),
            other => panic!("{:?}", other.map(drop)),
        }
    };
    let mut b = Builder::new();
    let (z, h) = (b.input("z", 3).expect("z"), b.input("h", 3).expect("h"));
    let y = b.scan("mingru", &rules::MINGRU, [3, 1, 1], &[z.into(), h.into()], false).expect("a scan");
    b.output("y", y).expect("y");
    let message = refused(b.clone(), &[], Export::default());
    assert!(message.contains("the linear recurrence mingru in ONNX"), "{message}");
    // What is not asked for is not in the way.
    let doubled = b.map("doubled", wgpu_rnn::expr::Expr::input(0) * 2.0.into(), &[z.into()]).expect("a value");
    b.output("doubled", doubled).expect("an output");
    let network = b.finish().expect("a network");
    Export::default().network_bytes::<f32>(&network, &[], &["doubled"]).expect("a model without the scan");

    let mut b = Builder::new();
    let (x, target) = (b.input("x", 2).expect("x"), b.input("target", 2).expect("target"));
    let loss = b.loss("mse", x, target, None, Loss::MeanSquared).expect("a loss");
    b.output("loss", loss).expect("an output");
    let message = refused(b, &[], Export::default());
    assert!(message.contains("the loss mse in ONNX") && message.contains("as an output"), "{message}");

    let mut b = Builder::new();
    let x = b.input("x", 2).expect("x");
    let config = RnnConfig { cell_clip: Some(1.0), ..RnnConfig::lstm(2, 3) };
    let y = b.layers("encoder", x, &config).expect("a stack");
    b.output("y", y).expect("y");
    let message = refused(b, &[], Export::default());
    assert!(message.contains("layers encoder: cell_clip in ONNX"), "{message}");

    let mut b = Builder::new();
    let x = b.input("x", 2).expect("x");
    let y = b.shift("before", x).expect("the step before");
    b.output("y", y).expect("y");
    let message = refused(b, &[], Export { states: true, lengths: false });
    assert!(message.contains("the state of the step before before in ONNX"), "{message}");

    // Two outputs of the model would have one name.
    let mut b = Builder::new();
    let x = b.input("sequence_lens", 2).expect("x");
    let y = b.map("y", wgpu_rnn::expr::tanh(wgpu_rnn::expr::Expr::input(0)), &[x.into()]).expect("y");
    b.output("y", y).expect("y");
    let network = b.finish().expect("a network");
    let error =
        (Export { lengths: true, states: false }).network_bytes::<f32>(&network, &[], &[]).expect_err("one name");
    assert!(error.to_string().contains("input sequence_lens of an ONNX model"), "{error}");
}
