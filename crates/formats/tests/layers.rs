//! Recurrent layers found by their names: of every tool whose names are known, against what the tool itself computed, and in every
//! spelling of PyTorch.

use safetensors::tensor::{Dtype, TensorView, serialize};
use std::path::{Path, PathBuf};
use wgpu_rnn::{Bias, Cell, Device, Direction, Input, Real, RnnConfig, Session, Shape, View, Weights, cells};
use wgpu_rnn_formats::{Tensors, npy};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A tensor to be written.
type Named = (String, Vec<usize>, Vec<f64>);

fn file(tensors: &[Named]) -> Tensors {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views =
        tensors.iter().zip(&bytes).map(|((n, s, _), b)| (n, TensorView::new(Dtype::F64, s.clone(), b).unwrap()));
    Tensors::from_bytes("m.safetensors", serialize(views, None).unwrap()).unwrap()
}

/// The tensors of a stack by PyTorch's names behind `prefix`.
fn stack(config: &RnnConfig, weights: &Weights<f64>, prefix: &str) -> Vec<Named> {
    weights.named(config).map(|(p, values)| (format!("{prefix}{}", p.name), p.shape, values.to_vec())).collect()
}

fn random(config: &RnnConfig) -> Weights<f64> {
    Weights::random(config, 3).unwrap()
}

/// y `[T, B, ·]`.
fn run<T: wgpu_rnn::Element + Real>(config: &RnnConfig, weights: &Weights<f64>, x: &[f64], batch: usize) -> Vec<f64> {
    let time = x.len() / config.input_size / batch;
    let mut session = Session::<T>::new(&Device::cpu(), config, Shape { time, batch }, &weights.cast()).unwrap();
    let x: Vec<T> = x.iter().map(|&v| T::from_f64(v)).collect();
    let y = session.forward(&Input::new(View::new(&x, &[time, batch, config.input_size]))).unwrap().y;
    y.data.into_iter().map(T::to_f64).collect()
}

fn error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |worst, (a, b)| f64::max(worst, (a - b).abs()))
}

/// Holds a run with these weights to a recorded f32 y: within 4 times what f32 costs here, and 1e-6 of its scale.
fn check(what: &str, (config, weights): &(RnnConfig, Weights<f64>), (x, batch): (&[f64], usize), y: &[f64]) {
    let exact = run::<f64>(config, weights, x, batch);
    let scale = y.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let bound = 4.0 * error(&run::<f32>(config, weights, x, batch), &exact) + 1e-6 * scale;
    assert!(error(&exact, y) <= bound, "{what}: off by {:e}, bound {bound:e}", error(&exact, y));
}

#[test]
fn every_tool_whose_names_are_known_gives_its_own_numbers() {
    let cases: [(&str, &str, &str, &'static Cell); 12] = [
        ("mlx_lstm.safetensors", "encoder", "MLX nn.LSTM", &cells::LSTM),
        ("mlx_gru.safetensors", "encoder", "MLX nn.GRU", &cells::GRU),
        ("mlx_rnn.safetensors", "encoder", "MLX nn.RNN", &cells::RNN_TANH),
        ("linen_lstm.safetensors", "params.cell", "Flax linen.LSTMCell, linen.OptimizedLSTMCell", &cells::LSTM),
        ("linen_gru.npz", "params/cell", "Flax linen.GRUCell", &cells::GRU),
        ("linen_simple.safetensors", "params.cell", "Flax linen.SimpleCell", &cells::RNN_TANH),
        ("nnx_lstm.safetensors", "cell", "Flax nnx.LSTMCell", &cells::LSTM),
        ("nnx_optimized_lstm.safetensors", "cell", "Flax nnx.OptimizedLSTMCell", &cells::LSTM),
        ("nnx_gru.safetensors", "cell", "Flax nnx.GRUCell", &cells::GRU),
        ("nnx_simple.safetensors", "cell", "Flax nnx.SimpleCell", &cells::RNN_TANH),
        ("equinox_lstm.safetensors", "model.cell", "equinox nn.LSTMCell", &cells::LSTM),
        ("equinox_gru.safetensors", "model.cell", "equinox nn.GRUCell", &cells::GRU),
    ];
    for (name, prefix, tool, cell) in cases {
        let file = Tensors::open(data("conventions").join(name)).unwrap();
        let layer = file.layer(None).unwrap();
        assert_eq!((layer.name(), layer.convention().tool), (prefix, tool), "{name}");
        let (config, weights) = layer.read::<f64>(None).unwrap();
        assert_eq!((config.cell, config.input_size, config.hidden_size, config.num_layers), (cell, 3, 4, 1), "{name}");
        let (_, x) = file.real("case.x").unwrap().unwrap();
        let (_, y) = file.real("case.y").unwrap().unwrap();
        check(name, &(config, weights), (&x, 1), &y);
    }
}

#[test]
fn a_published_layer_gives_its_numbers() {
    let file = Tensors::open(data("legere_bigru_pt/model.pt")).unwrap();
    let (config, weights) = file.layer(None).unwrap().read::<f64>(None).unwrap();
    let expected = RnnConfig { cell: &cells::GRU, direction: Direction::Bidirectional, ..RnnConfig::gru(192, 128) };
    assert_eq!(config, expected);
    let [x, y] = ["x.npy", "y.npy"].map(|n| npy::read::<f64>(data("legere_bigru_pt").join(n)).unwrap());
    check("legere", &(config, weights), (&x.data, x.shape[1]), &y.data);
}

#[test]
fn cells_of_pytorch_have_names_without_a_layer() {
    for cell in [&cells::LSTM, &cells::GRU, &cells::RNN_TANH] {
        for bias in [Bias::Two, Bias::None] {
            let config = RnnConfig { cell, bias, ..RnnConfig::lstm(3, 4) };
            let weights = random(&config);
            let mut tensors = stack(&config, &weights, "decoder.cell.");
            tensors.iter_mut().for_each(|(name, ..)| *name = name.trim_end_matches("_l0").into());
            tensors.push(("decoder.out.weight".into(), vec![2, 4], vec![0.0; 8]));
            let file = file(&tensors);
            let layer = file.layer(None).unwrap();
            assert_eq!(layer.convention().tool, "PyTorch nn.LSTMCell, nn.GRUCell, nn.RNNCell");
            assert_eq!(layer.name(), "decoder.cell");
            assert_eq!(layer.read(None).unwrap(), (config, weights));
        }
    }
}

/// Splits `values` `[gates·H, columns]` into the gates' matrices, each transposed.
fn transposed_gates(values: &[f64], gates: usize, columns: usize) -> Vec<Vec<f64>> {
    let rows = values.len() / gates / columns;
    let gate = |part: &[f64]| {
        (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| part[r * columns + c]).collect()
    };
    values.chunks(rows * columns).map(gate).collect()
}

/// burn has a `Linear` for x and one for h in each gate, [inputs, outputs].
fn burn(config: &RnnConfig, weights: &Weights<f64>, entry: usize, prefix: &str, gates: &[&str]) -> Vec<Named> {
    let (layer, h) = (&weights.layers[entry], config.hidden_size);
    let mut tensors = Vec::new();
    for (part, matrix, bias, columns) in
        [("input_transform", &layer.w, &layer.b_w, config.input_size), ("hidden_transform", &layer.r, &layer.b_r, h)]
    {
        let matrices = transposed_gates(matrix, gates.len(), columns);
        for (n, (gate, matrix)) in gates.iter().zip(matrices).enumerate() {
            tensors.push((format!("{prefix}{gate}.{part}.weight"), vec![columns, h], matrix));
            tensors.push((format!("{prefix}{gate}.{part}.bias"), vec![h], bias[n * h..][..h].to_vec()));
        }
    }
    tensors
}

#[test]
fn burn_has_a_module_per_gate_and_per_direction() {
    let cases: [(&'static Cell, &[&str], &str); 3] = [
        (&cells::LSTM, &["input_gate", "forget_gate", "cell_gate", "output_gate"], "burn nn.Lstm, nn.BiLstm"),
        (&cells::GRU, &["reset_gate", "update_gate", "new_gate"], "burn nn.Gru, nn.BiGru"),
        (&cells::RNN_TANH, &["gate"], "burn nn.Rnn, nn.BiRnn"),
    ];
    for (cell, gates, tool) in cases {
        let config = RnnConfig { cell, ..RnnConfig::lstm(3, 4) };
        let weights = random(&config);
        let one = file(&burn(&config, &weights, 0, "rnn.", gates));
        assert_eq!(one.layer(Some("rnn")).unwrap().convention().tool, tool);
        assert_eq!(one.layer(None).unwrap().read(None).unwrap(), (config.clone(), weights));

        let config = RnnConfig { direction: Direction::Bidirectional, ..config };
        let weights = random(&config);
        let mut tensors = burn(&config, &weights, 0, "rnn.forward.", gates);
        tensors.extend(burn(&config, &weights, 1, "rnn.reverse.", gates));
        let both = file(&tensors);
        let layer = both.layer(None).unwrap();
        assert_eq!(layer.name(), "rnn");
        assert_eq!(layer.read(None).unwrap(), (config, weights));
    }
}

/// Each row of a matrix as its length and a vector of that direction, in both of PyTorch's spellings.
#[test]
fn weight_normalised_matrices_are_put_together() {
    let config = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, ..RnnConfig::gru(3, 4) };
    let weights = random(&config);
    for spelling in ["hook", "parametrization"] {
        let mut tensors = Vec::new();
        for (name, shape, values) in stack(&config, &weights, "rnn.") {
            let weight = name.strip_prefix("rnn.").unwrap().to_string();
            if shape.len() == 1 || weight.contains("_l1") {
                tensors.push((name, shape, values));
                continue;
            }
            let (g, v) = match spelling {
                "hook" => (format!("{name}_g"), format!("{name}_v")),
                _ => ["0", "1"].map(|n| format!("rnn.parametrizations.{weight}.original{n}")).into(),
            };
            let rows = values.chunks(shape[1]);
            let norms: Vec<f64> = rows.map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
            tensors.push((g, vec![shape[0], 1], norms));
            tensors.push((v, shape, values.iter().map(|v| 3.0 * v).collect()));
        }
        let file = file(&tensors);
        let (got, read) = file.layer(Some("rnn")).unwrap().read::<f64>(None).unwrap();
        assert_eq!(got, config, "{spelling}");
        for ((p, expected), (_, got)) in weights.named(&config).zip(read.named(&config)) {
            assert!(error(expected, got) < 1e-14, "{spelling}: {}", p.name);
        }
    }
}

#[test]
fn layers_are_found_by_parts_of_their_names() {
    let config = RnnConfig::lstm(3, 4);
    let weights = random(&config);
    let mut tensors = stack(&config, &weights, "state_dict.module.encoder._orig_mod.lstm.");
    tensors.extend(stack(&config, &weights, "state_dict.module.decoder.lstm."));
    let two = file(&tensors);
    assert_eq!(two.layers().len(), 2);
    for name in [
        "state_dict.module.encoder._orig_mod.lstm",
        "state_dict.module.encoder._orig_mod.lstm.",
        "state_dict.encoder.lstm",
        "encoder.lstm",
        "module.encoder.lstm.",
    ] {
        let layer = two.layer(Some(name)).unwrap();
        assert_eq!(layer.name(), "state_dict.module.encoder._orig_mod.lstm", "{name}");
    }
    let refused = |name: Option<&str>| two.layer(name).err().unwrap().to_string();
    let list = "those of the file are \"state_dict.module.decoder.lstm\", \"state_dict.module.encoder._orig_mod.lstm\"";
    assert_eq!(
        refused(None),
        format!("m.safetensors: recurrent layer: expected one, or the name of one of several, got 2; {list}")
    );
    assert_eq!(
        refused(Some("lstm")),
        format!("m.safetensors: recurrent layer: expected one named \"lstm\", got 2; {list}")
    );
    assert_eq!(
        refused(Some("stm")),
        format!("m.safetensors: recurrent layer: expected one named \"stm\", got 0; {list}")
    );
    let none = file(&[("conv.weight".into(), vec![1], vec![0.0])]);
    let message = none.layer(None).err().unwrap().to_string();
    assert!(message.ends_with("got 0; none of them; the file has the tensors conv.weight"), "{message}");
}

#[test]
fn the_number_of_gates_says_which_cells() {
    let names = |config: &RnnConfig| {
        let file = file(&stack(config, &random(config), ""));
        file.layer(None).unwrap().cells().into_iter().map(|c| c.name).collect::<Vec<_>>()
    };
    let of = |cell: &'static Cell, bias| names(&RnnConfig { cell, bias, ..RnnConfig::lstm(3, 4) });
    assert_eq!(of(&cells::LSTM, Bias::Two), ["lstm", "slstm"]);
    assert_eq!(of(&cells::GRU, Bias::Two), ["gru", "gru-reset-before"]);
    assert_eq!(of(&cells::GRU, Bias::None), ["gru", "gru-reset-before"]);
    assert_eq!(of(&cells::GRU, Bias::One), ["gru-reset-before", "gru"]);
    assert_eq!(of(&cells::RNN_TANH, Bias::Two), ["rnn-tanh", "rnn-relu"]);
    assert_eq!(of(&cells::LSTM_PEEPHOLE, Bias::One), ["lstm-peephole"]);
    let projected = RnnConfig { proj_size: 2, num_layers: 2, ..RnnConfig::lstm(3, 4) };
    assert_eq!(names(&projected), ["lstm", "slstm"]);
    // A cell that does not fit is refused with those that do.
    let file = file(&stack(&RnnConfig::lstm(3, 4), &random(&RnnConfig::lstm(3, 4)), "a."));
    let message = file.layer(None).unwrap().config(Some(&cells::GRU)).unwrap_err().to_string();
    assert!(message.contains("a.weight_hh_l0") || message.contains("a.weight_ih_l0"), "{message}");
    assert!(message.contains("the shapes fit lstm or slstm with hidden_size 4"), "{message}");
}

#[test]
fn a_layer_with_a_tensor_too_many_is_none_of_a_tool() {
    let mut tensors: Vec<Named> = Vec::new();
    for (name, shape) in [("Wx", vec![12, 3]), ("Wh", vec![12, 4]), ("b", vec![12]), ("bhn", vec![4])] {
        let count = shape.iter().product();
        tensors.push((name.into(), shape, vec![0.5; count]));
    }
    assert_eq!(file(&tensors).layers().len(), 1);
    tensors.push(("bias".into(), vec![12], vec![0.0; 12]));
    assert_eq!(file(&tensors).layers().len(), 0);
    // A bias of another length.
    tensors[3] = ("bhn".into(), vec![5], vec![0.0; 5]);
    tensors.pop();
    assert_eq!(file(&tensors).layers().len(), 0);
}
