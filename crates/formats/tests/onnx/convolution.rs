//! `Conv` over every layout of a graph's input, in models without a recurrent node, against a loop.

use super::recorded::error;
use super::wire::{Value, floats, graph, model, node, value};
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Tensor};
use wgpu_rnn_formats::onnx::OnnxFile;

/// Numbers that no two places share.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|n| ((n * 37 + seed * 101) % 97) as f32 / 48.5 - 1.0).collect()
}

/// A convolution of `[B, C, T]`.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    channels: usize,
    time: usize,
    outputs: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    group: usize,
    pads: [usize; 2],
}

impl Case {
    fn places(&self) -> usize {
        (self.time + self.pads[0] + self.pads[1] - (self.taps - 1) * self.dilation - 1) / self.stride + 1
    }

    /// y `[B, M, T']` of x `[B, C, T]`, in f64.
    fn naive(&self, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f64> {
        let &Self { batch, channels, time, outputs, taps, stride, dilation, group, pads } = self;
        let (per_group, places) = (channels / group, self.places());
        let mut y = Vec::new();
        for (b, m, place) in
            (0..batch).flat_map(|b| (0..outputs).flat_map(move |m| (0..places).map(move |place| (b, m, place))))
        {
            let mut sum = f64::from(bias[m]);
            for (c, k) in (0..per_group).flat_map(|c| (0..taps).map(move |k| (c, k))) {
                let channel = m / (outputs / group) * per_group + c;
                if let Some(t) = (place * stride + k * dilation).checked_sub(pads[0]).filter(|&t| t < time) {
                    let x = x[(b * channels + channel) * time + t];
                    sum += f64::from(w[(m * per_group + c) * taps + k]) * f64::from(x);
                }
            }
            y.push(sum);
        }
        y
    }
}

/// Where B, C and T stand in the graph's input and output, as the `perm` to `[B, C, T]` and back; `None`: they stand so.
const LAYOUTS: [(&str, Option<[usize; 3]>); 4] =
    [("BCT", None), ("TBC", Some([1, 2, 0])), ("BTC", Some([0, 2, 1])), ("CTB", Some([2, 0, 1]))];

/// `data` of a shape, with its axes in another order.
fn turned<T: Copy>(data: &[T], shape: [usize; 3], order: [usize; 3]) -> Tensor<T> {
    let to = order.map(|n| shape[n]);
    let steps = [shape[1] * shape[2], shape[2], 1];
    let at = (0..to[0]).flat_map(|i| (0..to[1]).flat_map(move |j| (0..to[2]).map(move |k| [i, j, k])));
    let data = at.map(|at| data[(0..3).map(|n| at[n] * steps[order[n]]).sum::<usize>()]).collect();
    Tensor { data, shape: to.to_vec() }
}

/// The order that undoes another.
fn back(order: [usize; 3]) -> [usize; 3] {
    let mut back = [0; 3];
    (0..3).for_each(|n| back[order[n]] = n);
    back
}

fn check(case: Case, (layout, order): (&str, Option<[usize; 3]>)) {
    let Case { batch, channels, time, outputs, taps, stride, dilation, group, pads } = case;
    let order = order.unwrap_or([0, 1, 2]);
    let (to, from) = (order.map(|n| n as i64), back(order).map(|n| n as i64));
    let plain = order == [0, 1, 2];
    let (pads, sizes) =
        (pads.map(|n| n as i64), [taps, stride, dilation, group].map(|n| i64::try_from(n).expect("a size")));
    let attributes = [
        ("pads", Value::Ints(&pads)),
        ("strides", Value::Ints(&sizes[1..2])),
        ("dilations", Value::Ints(&sizes[2..3])),
        ("group", Value::Int(sizes[3])),
    ];
    let turn = |from: &str, to: &str, order: &[i64; 3]| match plain {
        true => node("Identity", &[from], &[to], &[]),
        false => node("Transpose", &[from], &[to], &[("perm", Value::Ints(order))]),
    };
    let nodes = [turn("x", "xt", &to), node("Conv", &["xt", "w", "b"], &["yt"], &attributes), turn("yt", "y", &from)];
    let (w, bias) = (numbers(outputs * channels / group * taps, 2), numbers(outputs, 3));
    let constants = [floats("w", &[outputs, channels / group, taps], &w), floats("b", &[outputs], &bias)];
    let x = numbers(batch * channels * time, 1);
    let given = turned(&x, [batch, channels, time], back(order));
    let sizes: Vec<i64> = given.shape.iter().map(|&d| d as i64).collect();
    let graph = graph(&nodes, &constants, &[value("x", &sizes)], &[value("y", &[-1, -1, -1])]);
    let file = OnnxFile::from_bytes("conv.onnx", model(20, &graph, &[])).expect("a model");
    let whole = file.model(&[("x", &given.shape)]).unwrap_or_else(|e| panic!("{layout} {case:?}: {e}"));
    let mut session = whole.session::<f32>(&Device::cpu(), &NetworkOptions::default()).expect("a session");
    let y = session.run(&[("x", given.view())]).expect("a run").remove(0).tensor;
    let right = turned(&case.naive(&x, &w, &bias), [batch, outputs, case.places()], back(order));
    let y = Tensor { data: y.data.iter().map(|&v| v.into()).collect(), shape: y.shape };
    let error = error(&right, &y);
    assert!(error < 1e-5, "{layout} {case:?}: {error}");
}

#[test]
fn every_layout_gives_what_a_loop_gives() {
    let case =
        Case { batch: 3, channels: 4, time: 7, outputs: 6, taps: 3, stride: 1, dilation: 1, group: 1, pads: [0, 0] };
    let cases = [
        case,
        // The same number of steps as before.
        Case { pads: [1, 1], ..case },
        Case { taps: 2, dilation: 3, pads: [3, 0], ..case },
        Case { taps: 1, ..case },
        // Others, with everything together.
        Case { taps: 1, stride: 2, ..case },
        Case { stride: 2, pads: [2, 1], group: 2, ..case },
        Case { stride: 3, dilation: 2, pads: [0, 4], group: 4, outputs: 4, ..case },
        // A depthwise one.
        Case { channels: 6, group: 6, pads: [2, 0], ..case },
        // Sizes that say nothing.
        Case { batch: 1, pads: [1, 1], ..case },
        Case { batch: 7, pads: [1, 1], ..case },
        Case { batch: 4, time: 4, pads: [1, 1], outputs: 4, ..case },
        Case { channels: 1, pads: [1, 1], ..case },
        Case { time: 1, taps: 1, ..case },
        Case { batch: 1, channels: 1, stride: 2, ..case },
    ];
    for case in cases {
        for layout in LAYOUTS {
            check(case, layout);
        }
    }
}

/// Steps as columns would be matrices of 46 million numbers.
#[test]
fn long_sequences_are_steps() {
    let case = Case {
        batch: 2,
        channels: 16,
        time: 601,
        outputs: 16,
        taps: 3,
        stride: 1,
        dilation: 2,
        group: 2,
        pads: [2, 2],
    };
    for layout in LAYOUTS {
        // Columns, in a product for each group.
        check(Case { batch: 1, time: 80, group: 16, ..case }, layout);
        check(case, layout);
        check(Case { batch: 1, pads: [4, 0], ..case }, layout);
    }
}
