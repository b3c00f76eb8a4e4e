//! Trained weights back under the names that they came from: what is read again is what was written, and everything else of the file is
//! as it was.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wgpu_rnn::io::NamedTensors;
use wgpu_rnn::network::Builder;
use wgpu_rnn::weights::{Names, Place};
use wgpu_rnn::{Bias, Cell, Device, Direction, Head, Input, RnnConfig, Session, Shape, View, Weights, cells};
use wgpu_rnn_formats::{Element, Tensors};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A tensor's shape, format and bytes.
type Plain = (Vec<usize>, Dtype, Vec<u8>);

/// What a safetensors file holds, by a reader that is not this crate's.
fn plain(bytes: &[u8]) -> BTreeMap<String, Plain> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensors = file.iter().map(|(name, t)| (name.to_string(), (t.shape().to_vec(), t.dtype(), t.data().to_vec())));
    tensors.collect()
}

/// A file of such tensors, of values that look random.
fn file(tensors: &[(String, Vec<usize>)], dtype: Dtype, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let number = |n: usize| (((n + 1) as f64 * 0.618_033_988_749_894_9).fract() as f32) - 0.5;
    let mut next = 0;
    let mut values = |shape: &[usize]| -> Vec<u8> {
        let numbers = (next..).map(number).take(shape.iter().product());
        next += shape.iter().product::<usize>();
        match dtype {
            Dtype::F16 => numbers.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
            Dtype::F64 => numbers.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
            _ => numbers.flat_map(f32::to_le_bytes).collect(),
        }
    };
    let all: Vec<_> = tensors.iter().map(|(name, shape)| (name, shape.clone(), values(shape))).collect();
    let views = all.iter().map(|(name, shape, bytes)| (*name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    serialize(views, metadata).unwrap()
}

fn named(names: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    names.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
}

/// Every value another one, but for zeros: those of biases that the file does not have.
fn trained(config: &RnnConfig, weights: &Weights<f32>) -> Weights<f32> {
    let mut trained = weights.clone();
    for p in wgpu_rnn::weights::parameters(config) {
        for (n, v) in trained.get_mut(p.place).iter_mut().enumerate().filter(|(_, v)| **v != 0.0) {
            *v = *v * 1.25 + 0.001 * (n % 7 + 1) as f32;
        }
    }
    trained
}

/// Reads a layer, writes it back trained, and holds what is read then to that; the other tensors stay. Gives the bytes.
fn goes_there_and_back(what: &str, file: &Tensors, tool: &str, others: &[&str]) -> Vec<u8> {
    let layer = file.layer(None).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(layer.convention().tool, tool, "{what}");
    let (config, weights) = layer.read::<f32>(None).unwrap();
    let new = trained(&config, &weights);
    assert_ne!(new, weights);
    let mut changed = file.rewrite();
    changed.layer(&layer, &config, &new).unwrap_or_else(|e| panic!("{what}: {e}"));
    let bytes = changed.bytes().unwrap();
    let again = Tensors::from_bytes("again.safetensors", bytes.clone()).unwrap();
    assert!(again.names().eq(file.names()), "{what}: {again:?}");
    for name in file.names() {
        assert_eq!((again.shape(name), again.element(name)), (file.shape(name), file.element(name)), "{what}: {name}");
        let (old, now) = (file.real::<f64>(name).unwrap().unwrap(), again.real::<f64>(name).unwrap().unwrap());
        assert!(old == now || !others.contains(&name), "{what}: {name}");
    }
    assert_eq!(again.layer(None).unwrap().read::<f32>(None).unwrap(), (config, new), "{what}");
    bytes
}

/// Of every class of a tool, as that tool's own files have it: 12 of the 17.
#[test]
fn files_of_every_tool_take_their_weights_back() {
    let cases = [
        ("mlx_lstm.safetensors", "MLX nn.LSTM"),
        ("mlx_gru.safetensors", "MLX nn.GRU"),
        ("mlx_rnn.safetensors", "MLX nn.RNN"),
        ("linen_lstm.safetensors", "Flax linen.LSTMCell, linen.OptimizedLSTMCell"),
        ("linen_gru.npz", "Flax linen.GRUCell"),
        ("linen_simple.safetensors", "Flax linen.SimpleCell"),
        ("nnx_lstm.safetensors", "Flax nnx.LSTMCell"),
        ("nnx_optimized_lstm.safetensors", "Flax nnx.OptimizedLSTMCell"),
        ("nnx_gru.safetensors", "Flax nnx.GRUCell"),
        ("nnx_simple.safetensors", "Flax nnx.SimpleCell"),
        ("equinox_lstm.safetensors", "equinox nn.LSTMCell"),
        ("equinox_gru.safetensors", "equinox nn.GRUCell"),
    ];
    for (name, tool) in cases {
        let file = Tensors::open(data("conventions").join(name)).unwrap();
        let others: Vec<&str> = file.names().filter(|n| n.starts_with("case.") || n.starts_with("case/")).collect();
        goes_there_and_back(name, &file, tool, &others);
    }
}

/// The other 5: PyTorch's stacks and cells, and burn's modules.
#[test]
fn pytorch_and_burn_take_their_weights_back() {
    let other = ("head.weight", &[3usize, 8][..]);
    let stack = |gates: usize| {
        let mut names = Vec::new();
        for end in ["l0", "l0_reverse", "l1", "l1_reverse"] {
            let input = if end.starts_with("l1") { 8 } else { 3 };
            names.push((format!("enc.rnn.weight_ih_{end}"), vec![gates * 4, input]));
            names.push((format!("enc.rnn.weight_hh_{end}"), vec![gates * 4, 4]));
            names.push((format!("enc.rnn.bias_ih_{end}"), vec![gates * 4]));
            names.push((format!("enc.rnn.bias_hh_{end}"), vec![gates * 4]));
        }
        names
    };
    let burn = |gates: &[&str], prefix: &str| {
        let mut names = Vec::new();
        for gate in gates {
            for (part, inputs) in [("input_transform", 3), ("hidden_transform", 4)] {
                names.push((format!("{prefix}{gate}.{part}.weight"), vec![inputs, 4]));
                names.push((format!("{prefix}{gate}.{part}.bias"), vec![4]));
            }
        }
        names
    };
    let cell = |gates: usize| {
        named(&[
            ("c.weight_ih", &[gates * 4, 3]),
            ("c.weight_hh", &[gates * 4, 4]),
            ("c.bias_ih", &[gates * 4]),
            ("c.bias_hh", &[gates * 4]),
        ])
    };
    let lstm = ["input_gate", "forget_gate", "cell_gate", "output_gate"];
    let gru = ["reset_gate", "update_gate", "new_gate"];
    let both = |gates: &[&str]| [burn(gates, "rnn.forward."), burn(gates, "rnn.reverse.")].concat();
    let (torch, torch_cell) = ("PyTorch nn.LSTM, nn.GRU, nn.RNN", "PyTorch nn.LSTMCell, nn.GRUCell, nn.RNNCell");
    let cases = [
        (torch, stack(4)),
        (torch, stack(3)),
        (torch, stack(1)),
        (torch_cell, cell(4)),
        (torch_cell, cell(3)),
        ("burn nn.Lstm, nn.BiLstm", burn(&lstm, "rnn.")),
        ("burn nn.Lstm, nn.BiLstm", both(&lstm)),
        ("burn nn.Gru, nn.BiGru", both(&gru)),
        ("burn nn.Rnn, nn.BiRnn", burn(&["gate"], "rnn.")),
    ];
    for (tool, mut names) in cases {
        names.extend(named(&[other]));
        for dtype in [Dtype::F32, Dtype::F64] {
            let metadata = HashMap::from([("made by".to_string(), "hand".to_string())]);
            let before = file(&names, dtype, Some(metadata));
            let tensors = Tensors::from_bytes("m.safetensors", before.clone()).unwrap();
            let after = goes_there_and_back(tool, &tensors, tool, &["head.weight"]);
            assert_eq!(plain(&before)["head.weight"], plain(&after)["head.weight"]);
            let (_, header) = SafeTensors::read_metadata(&after).unwrap();
            assert_eq!(header.metadata().as_ref().unwrap()["made by"], "hand");
        }
    }
}

/// In a file of f16 the new weights are the nearest numbers of f16; what is beyond them is refused.
#[test]
fn number_formats_stay() {
    let names =
        named(&[("weight_ih_l0", &[4, 2]), ("weight_hh_l0", &[4, 1]), ("bias_ih_l0", &[4]), ("bias_hh_l0", &[4])]);
    let file = Tensors::from_bytes("half.safetensors", file(&names, Dtype::F16, None)).unwrap();
    let layer = file.layer(None).unwrap();
    let (config, weights) = layer.read::<f32>(None).unwrap();
    let mut new = trained(&config, &weights);
    let mut changed = file.rewrite();
    changed.layer(&layer, &config, &new).unwrap();
    let again = Tensors::from_bytes("again.safetensors", changed.bytes().unwrap()).unwrap();
    assert_eq!(again.element("weight_ih_l0"), Some(Element::F16));
    let (_, read) = again.layer(None).unwrap().read::<f32>(None).unwrap();
    for ((p, new), (_, read)) in new.named(&config).zip(read.named(&config)) {
        assert!(new.iter().zip(read).all(|(v, r)| half::f16::from_f32(*v).to_f32() == *r), "{}", p.name);
    }
    new.layers[0].b_w[1] = 1e5;
    let error = file.rewrite().layer(&layer, &config, &new).unwrap_err().to_string();
    assert!(error.contains("bias_ih_l0: expected values that f16 of the file holds, got 100000"), "{error}");
}

/// r and z of a GRU have one bias in MLX: what training made of b_r goes to it, and the layer's numbers stay.
#[test]
fn biases_that_a_tool_has_as_one_are_summed() {
    for name in ["mlx_gru.safetensors", "equinox_gru.safetensors", "linen_gru.npz"] {
        let file = Tensors::open(data("conventions").join(name)).unwrap();
        let layer = file.layer(None).unwrap();
        let (config, weights) = layer.read::<f64>(None).unwrap();
        let mut new = weights.clone();
        new.layers[0].b_r.iter_mut().enumerate().for_each(|(n, v)| *v += 0.1 + 0.01 * n as f64);
        let mut changed = file.rewrite();
        changed.layer(&layer, &config, &new).unwrap();
        let again = Tensors::from_bytes("again.safetensors", changed.bytes().unwrap()).unwrap();
        let (_, read) = again.layer(None).unwrap().read::<f64>(None).unwrap();
        assert_eq!(read.layers[0].b_r[..8], [0.0; 8], "{name}");
        let run = |weights: &Weights<f64>| {
            let mut session = Session::new(&Device::cpu(), &config, Shape { time: 4, batch: 1 }, weights).unwrap();
            let x: Vec<f64> = (0..12).map(|n| (n as f64 * 0.7).sin()).collect();
            session.forward(&Input::new(View::new(&x, &[4, 1, 3]))).unwrap().y.data
        };
        let (expected, got, before) = (run(&new), run(&read), run(&weights));
        // The file has f32: a rounding of each bias.
        assert!(expected.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-7), "{name}");
        assert!(expected.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3), "{name}");
    }
}

/// v is the new weight and g the length of its rows, in both of PyTorch's spellings; rows of zeros too.
#[test]
fn weight_normalised_matrices_are_taken_apart() {
    for [g, v] in [
        ["rnn.weight_hh_l0_g", "rnn.weight_hh_l0_v"],
        ["rnn.parametrizations.weight_hh_l0.original0", "rnn.parametrizations.weight_hh_l0.original1"],
    ] {
        for lengths in [&[12usize, 1][..], &[]] {
            let names = named(&[
                (g, lengths),
                (v, &[12, 4]),
                ("rnn.weight_ih_l0", &[12, 3]),
                ("rnn.bias_ih_l0", &[12]),
                ("rnn.bias_hh_l0", &[12]),
            ]);
            let file = Tensors::from_bytes("m.safetensors", file(&names, Dtype::F32, None)).unwrap();
            let layer = file.layer(None).unwrap();
            let (config, weights) = layer.read::<f32>(None).unwrap();
            let mut new = trained(&config, &weights);
            new.layers[0].r[4..8].fill(0.0);
            let mut changed = file.rewrite();
            changed.layer(&layer, &config, &new).unwrap();
            let again = Tensors::from_bytes("again.safetensors", changed.bytes().unwrap()).unwrap();
            assert!(again.names().eq(file.names()));
            let (_, read) = again.layer(None).unwrap().read::<f32>(None).unwrap();
            for (p, got) in read.named(&config) {
                let expected = new.get(p.place);
                let bits = |a: f32, b: f32| a.to_bits().abs_diff(b.to_bits());
                // g is rounded to f32, and so is the product.
                let most = if matches!(p.place, Place::Layer(_, wgpu_rnn::weights::Field::R)) { 2 } else { 0 };
                assert!(expected.iter().zip(got).all(|(a, b)| a == b || bits(*a, *b) <= most), "{g}: {}", p.name);
            }
            let (_, v) = again.real::<f32>(v).unwrap().unwrap();
            if lengths.is_empty() {
                assert_eq!(v, new.layers[0].r);
            } else {
                assert_eq!((&v[..4], &v[4..8], &v[8..]), (&new.layers[0].r[..4], &[1.0; 4][..], &new.layers[0].r[8..]));
            }
        }
    }
}

/// A `.pt` becomes a safetensors file of the same names.
#[test]
fn a_pt_is_written_as_safetensors() {
    let file = Tensors::open(data("legere_bigru_pt/model.pt")).unwrap();
    let layer = file.layer(None).unwrap();
    let others: Vec<&str> = file.names().filter(|name| !name.starts_with("model.rnn.")).collect();
    assert!(!others.is_empty());
    goes_there_and_back("legere", &file, "PyTorch nn.LSTM, nn.GRU, nn.RNN", &others);
    // Everything that there is: whole numbers, views, halves.
    let all = Tensors::open(data("pytorch/zip.pt")).unwrap();
    let mut changed = all.rewrite();
    changed.tensor("state_dict.half", View::new(&[0.5f32; 6], &[2, 3])).unwrap();
    let again = Tensors::from_bytes("again.safetensors", changed.bytes().unwrap()).unwrap();
    assert!(again.names().eq(all.names()));
    for name in all.names().filter(|name| *name != "state_dict.half") {
        assert_eq!(again.element(name), all.element(name), "{name}");
        assert_eq!(again.real::<f64>(name).unwrap(), all.real::<f64>(name).unwrap(), "{name}");
    }
    let error = all.rewrite().tensor("state_dict.whole", View::new(&[0.5f32; 3], &[3])).unwrap_err().to_string();
    assert!(error.contains("state_dict.whole: expected a floating-point tensor in the file, got i64"), "{error}");
    assert_eq!(layer.name(), "model.rnn");
}

/// Embedding and head by their own names, formats that are not read, and one tensor under two names.
#[test]
fn stacks_networks_and_shared_tensors_are_written() {
    let mut names = named(&[("embed.weight", &[7, 3]), ("fc.weight", &[5, 4]), ("fc.bias", &[5]), ("other", &[2])]);
    for (name, shape) in
        [("weight_ih", vec![16, 3]), ("weight_hh", vec![16, 4]), ("bias_ih", vec![16]), ("bias_hh", vec![16])]
    {
        names.push((format!("lstm.{name}_l0"), shape));
    }
    let tied = HashMap::from([("tied.weight".to_string(), "embed.weight".to_string())]);
    let before = file(&names, Dtype::F32, Some(tied));
    // A tensor of 8-bit floating-point numbers beside.
    let (eight, old) =
        (TensorView::new(Dtype::F8_E4M3, vec![3], &[1, 2, 3]).unwrap(), SafeTensors::deserialize(&before).unwrap());
    let (_, header) = SafeTensors::read_metadata(&before).unwrap();
    let mut views: Vec<(String, TensorView<'_>)> = old.iter().map(|(name, t)| (name.to_string(), t)).collect();
    views.push(("eight".into(), eight));
    let before = serialize(views, header.metadata().clone()).unwrap();

    let file = Tensors::from_bytes("m.safetensors", before.clone()).unwrap();
    let of_file = Names { layers: "lstm.", embedding: Some("embed.weight"), head: Some("fc.weight") };
    let config = RnnConfig { vocabulary: Some(7), head: Some(Head { size: 5, loss: None }), ..RnnConfig::lstm(3, 4) };
    let weights = file.weights::<f32>(&config, of_file).unwrap();
    let new = trained(&config, &weights);
    let mut changed = file.rewrite();
    changed.stack(&config, &new, of_file).unwrap();
    let after = changed.bytes().unwrap();
    let (was, is) = (plain(&before), plain(&after));
    assert!(was.keys().eq(is.keys()));
    assert_eq!((&was["eight"], &was["other"]), (&is["eight"], &is["other"]));
    assert_eq!((is["eight"].1, is["eight"].0.len()), (Dtype::F8_E4M3, 1));
    let again = Tensors::from_bytes("again.safetensors", after).unwrap();
    assert_eq!(again.weights::<f32>(&config, of_file).unwrap(), new);
    assert_eq!(again.real::<f32>("tied.weight").unwrap(), again.real::<f32>("embed.weight").unwrap());
    assert_eq!(again.real::<f32>("tied.weight").unwrap().unwrap().1, new.embedding);
    // Two values for one tensor.
    let error = changed.tensor("tied.weight", View::new(&[0.0f32; 21], &[7, 3])).unwrap_err().to_string();
    assert!(error.contains("tied.weight: expected the values of embed.weight"), "{error}");

    // The same file as a network's.
    let mut b = Builder::new();
    let ids = b.input("ids", 1).unwrap();
    let x = b.embedding("embed", ids, 7, 3).unwrap();
    let y = b.layers("lstm", x, &RnnConfig::lstm(3, 4)).unwrap();
    let (w, bias) = (b.param("fc.weight", &[5, 4]).unwrap(), b.param("fc.bias", &[1, 5]).unwrap());
    let y = b.linear("fc", y, w, Some(bias)).unwrap();
    b.output("y", y).unwrap();
    let network = Arc::new(b.finish().unwrap());
    let params: Vec<f32> = network.load(&file, "", |name| ["other", "tied.weight"].contains(&name)).unwrap();
    let new: Vec<f32> = params.iter().map(|v| v * 0.5).collect();
    let mut changed = file.rewrite();
    changed.network(&network, &new, "").unwrap();
    let at = tempfile::TempDir::new().unwrap();
    changed.save(at.path().join("new.safetensors")).unwrap();
    let again = Tensors::open(at.path().join("new.safetensors")).unwrap();
    assert_eq!(again.shape("fc.bias"), Some(&[5][..]));
    assert_eq!(network.load::<f32>(&again, "", |name| ["other", "tied.weight"].contains(&name)).unwrap(), new);
}

#[test]
fn what_does_not_fit_is_refused() {
    let names = named(&[
        ("a.weight_ih_l0", &[12, 3]),
        ("a.weight_hh_l0", &[12, 4]),
        ("a.bias_ih_l0", &[12]),
        ("a.bias_hh_l0", &[12]),
    ]);
    let [one, other] = ["one.safetensors", "other.safetensors"]
        .map(|name| Tensors::from_bytes(name, file(&names, Dtype::F32, None)).unwrap());
    let layer = one.layer(None).unwrap();
    let (config, weights) = layer.read::<f32>(None).unwrap();
    let message = |error: wgpu_rnn::Result<()>| error.unwrap_err().to_string();
    let error = message(other.rewrite().layer(&layer, &config, &weights));
    assert!(error.contains("expected one of other.safetensors, got one of one.safetensors"), "{error}");
    let both = RnnConfig { direction: Direction::Bidirectional, ..config.clone() };
    let error = message(one.rewrite().layer(&layer, &both, &Weights::<f32>::random(&both, 1).unwrap()));
    assert!(error.contains("bidirectional"), "{error}");
    let none = RnnConfig { bias: Bias::None, ..config.clone() };
    let error = message(one.rewrite().layer(&layer, &none, &Weights::<f32>::random(&none, 1).unwrap()));
    assert!(error.contains("no bias"), "{error}");
    assert!(one.rewrite().layer(&layer, &config, &Weights::<f32>::default()).is_err());
    let error = message(one.rewrite().tensor("b", View::new(&[0.0f32], &[1])));
    assert!(error.contains("one.safetensors: b: expected a tensor of the file, got none"), "{error}");
    let error = message(one.rewrite().tensor("a.bias_ih_l0", View::new(&[0.0f32; 4], &[4])));
    assert!(error.contains("expected [12], as in the file, got [4]"), "{error}");
    // Another cell of the same tensors is the same tensors.
    let cell: &'static Cell = &cells::GRU_RESET_BEFORE;
    let (config, weights) = layer.read::<f32>(Some(cell)).unwrap();
    one.rewrite().layer(&layer, &config, &weights).unwrap();
}
