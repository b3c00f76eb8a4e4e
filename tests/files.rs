//! Files of trained networks that do not fit what is asked of them, or fit by other names: what is refused, and what the message
//! says would help. And goldens whose runs are larger than their files.

use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::rule::Rule;
use wgpu_rnn::weights::{Names, parameters};
use wgpu_rnn::{
    Bias, Cell, Device, Direction, Error, Head, Input, InputMode, Precision, Recurrence, Result, RnnConfig, Session,
    Shape, View, Weights, cells, rules,
};
use wgpu_rnn_verify::naive_linear::{self, Problem};
use wgpu_rnn_verify::{Golden, verify};

/// A file of these tensors, whose values count up from 0.
fn file(tensors: &[(&str, &[usize])]) -> TensorFile {
    let tensors: Vec<_> = tensors.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
    with(&tensors, None)
}

fn with(tensors: &[(String, Vec<usize>)], metadata: Option<HashMap<String, String>>) -> TensorFile {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, s)| (0..s.iter().product::<usize>()).flat_map(|n| (n as f32).to_le_bytes()).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape), data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    TensorFile::from_bytes("model.safetensors", serialize(views, metadata).unwrap()).unwrap()
}

/// A file of the parameters of `config` behind `prefix`, and of `others`.
fn stack(config: &RnnConfig, prefix: &str, others: &[(&str, &[usize])]) -> TensorFile {
    let own = parameters(config).into_iter().map(|p| (format!("{prefix}{}", p.name), p.shape));
    let others = others.iter().map(|(name, shape)| (name.to_string(), shape.to_vec()));
    with(&own.chain(others).collect::<Vec<_>>(), None)
}

fn lstm() -> RnnConfig {
    RnnConfig { cell: &cells::LSTM, input_size: 3, hidden_size: 4, ..Default::default() }
}

#[track_caller]
fn refused<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("not refused"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn half_of_a_bidirectional_layer_is_refused_and_read_in_part() {
    let both = RnnConfig { direction: Direction::Bidirectional, ..lstm() };
    for prefix in ["", "lstm."] {
        let file = stack(&both, prefix, &[]);
        let message = refused(file.weights::<f32>(&lstm(), prefix));
        assert_eq!(
            message,
            format!(
                "model.safetensors: tensors under the prefix {prefix:?}: expected only those that the configuration reads \
                 (lstm, layers: 1, Forward, bias Two), got 4 more: {prefix}bias_hh_l0_reverse, \
                 {prefix}bias_ih_l0_reverse, {prefix}weight_hh_l0_reverse, {prefix}weight_ih_l0_reverse; set direction: \
                 Direction::Bidirectional, or call weights_partial to leave them out"
            )
        );
        let (part, whole) = (file.weights_partial::<f32>(&lstm(), prefix), file.weights::<f32>(&both, prefix));
        assert_eq!(part.unwrap().layers[0], whole.unwrap().layers[0]);
    }
}

#[test]
fn what_would_read_the_rest_is_said() {
    let deep = RnnConfig { num_layers: 3, direction: Direction::Bidirectional, ..lstm() };
    let peephole = RnnConfig { cell: &cells::LSTM_PEEPHOLE, ..lstm() };
    let normal = RnnConfig { cell: &cells::GRU_LAYER_NORM, ..lstm() };
    let gru = RnnConfig { cell: &cells::GRU, ..lstm() };
    let square = RnnConfig { input_size: 4, ..lstm() };
    let skip = RnnConfig { input: InputMode::Skip, ..square.clone() };
    let cases = [
        (&deep, lstm(), "20 more: ", "set num_layers: 3, direction: Direction::Bidirectional, or call"),
        (&deep, RnnConfig { num_layers: 2, ..deep.clone() }, "8 more: ", "set num_layers: 3, or call"),
        // Not by its shape, which the reverse direction of the layer before makes another: what is missing says more.
        (&deep, RnnConfig { num_layers: 3, ..lstm() }, "12 more: ", "set direction: Direction::Bidirectional, or call"),
        (
            &lstm(),
            RnnConfig { bias: Bias::None, ..lstm() },
            "2 more: bias_hh_l0, bias_ih_l0;",
            "set bias: Bias::Two, or",
        ),
        (&lstm(), RnnConfig { bias: Bias::One, ..lstm() }, "1 more: bias_hh_l0;", "set bias: Bias::Two, or call"),
        (
            &peephole,
            lstm(),
            "1 more: weight_unit_l0;",
            "set a cell that has weight_unit (lstm-peephole, lstm-layer-norm",
        ),
        (&normal, gru, "1 more: gain_l0;", "set a cell that has gain (gru-layer-norm), or call"),
        (&square, skip, "1 more: weight_ih_l0;", "set input: InputMode::Linear, or call"),
    ];
    for (whole, asked, count, help) in cases {
        let file = stack(whole, "", &[]);
        let message = refused(file.weights::<f32>(&asked, ""));
        assert!(message.contains(count) && message.contains(help), "{message}\nlacks\n{count}\n{help}");
        file.weights::<f32>(whole, "").unwrap();
    }
    // A long list is cut.
    let message = refused(stack(&deep, "", &[]).weights::<f32>(&lstm(), ""));
    let (_, list) = message.split_once("more: ").unwrap();
    assert_eq!(list.matches("_hh_l").count(), 5, "{list}");
    assert!(list.contains(" and 15 more; "), "{list}");
}

#[test]
fn a_projection_that_is_left_out_is_said() {
    // A projection of which the configuration knows nothing: R has other columns too, but what is left over is said first.
    let whole = RnnConfig { proj_size: 2, ..lstm() };
    let message = refused(stack(&whole, "", &[]).weights::<f32>(&lstm(), ""));
    assert!(message.contains("1 more: weight_hr_l0; set proj_size: 2, or"), "{message}");
}

/// Names of kinds that this crate does not have: weight normalisation's, a cell's of another library.
#[test]
fn parameters_of_layers_that_nobody_knows_are_refused() {
    for name in ["weight_ih_l0_g", "weight_ci_l0", "bias_ch_l0", "weight_hh_l0_raw"] {
        let message = refused(stack(&lstm(), "a.", &[(&format!("a.{name}"), &[4])]).weights::<f32>(&lstm(), "a."));
        assert!(message.contains(&format!("1 more: a.{name}; call weights_partial")), "{message}");
    }
}

#[test]
fn tensors_of_other_modules_do_not_count() {
    let others: [(&str, &[usize]); 8] = [
        ("fc.weight", &[7, 4]),
        ("fc.bias", &[7]),
        ("embedding.weight", &[9, 3]),
        ("head.weight", &[2, 4]),
        ("dec.embedding", &[9, 3]),
        ("dec.attention.weight_ih_l0", &[16, 3]),
        ("position_l0", &[3]),
        ("encoder.layers.0.weight_l1", &[3]),
    ];
    for prefix in ["", "dec."] {
        let others: Vec<_> = others.iter().filter(|(name, _)| !name.starts_with("dec.") || prefix == "dec.").collect();
        let others: Vec<_> = others.into_iter().map(|(name, shape)| (*name, *shape)).collect();
        let file = stack(&lstm(), prefix, &others);
        assert_eq!(file.config(&cells::LSTM, prefix).unwrap(), lstm());
        file.weights::<f32>(&lstm(), prefix).unwrap();
    }
}

#[test]
fn a_cell_of_other_shapes_is_refused_with_those_that_fit() {
    let gru = stack(&RnnConfig { cell: &cells::GRU, input_size: 40, hidden_size: 64, ..Default::default() }, "", &[]);
    let config = |cell: &'static Cell| gru.config(cell, "").map(|c| c.hidden_size);
    assert_eq!((config(&cells::GRU).unwrap(), config(&cells::GRU_RESET_BEFORE).unwrap()), (64, 64));
    let fit = "got [192, 64] (the shapes fit gru or gru-reset-before with hidden_size 64)";
    for (cell, name, expected) in [
        (&cells::LSTM, "lstm", "[4·H, H] = [192, 48]"),
        (&cells::SLSTM, "slstm", "[4·H, H] = [192, 48]"),
        (&cells::RNN_TANH, "rnn-tanh", "[1·H, H] = [192, 192]"),
    ] {
        let expected = format!("weight_hh_l0: expected {expected} for {name} with weight_ih_l0 [192, 40], {fit}");
        assert_eq!(refused(config(cell)), format!("model.safetensors: {expected}"));
    }
    // Every cell's own file is taken, and what another says fits is what the file is.
    for own in cells::ALL {
        let file = stack(&RnnConfig { cell: own, input_size: 5, hidden_size: 12, ..Default::default() }, "", &[]);
        assert_eq!(file.config(own, "").unwrap().hidden_size, 12);
        for other in cells::ALL.into_iter().filter(|c| c.input_gates() != own.input_gates()) {
            let message = refused(file.config(other, ""));
            let (_, fitting) = message.split_once("(the shapes fit ").unwrap_or_else(|| panic!("{message}"));
            assert!(fitting.ends_with(" with hidden_size 12)"), "{message}");
            assert!(fitting.split(' ').any(|name| name == own.name), "{message} does not name {}", own.name);
        }
    }
    // The first matrix alone tells it where it can.
    let small =
        stack(&RnnConfig { cell: &cells::LSTM, input_size: 16, hidden_size: 32, ..Default::default() }, "", &[]);
    assert_eq!(
        refused(small.config(&cells::GRU, "")),
        "model.safetensors: weight_ih_l0: expected [3·H, I] for gru, got [128, 16] \
         (the shapes fit lstm or slstm with hidden_size 32)"
    );
}

#[test]
fn projections_and_heads_are_told_from_other_cells() {
    let projected = RnnConfig { proj_size: 3, hidden_size: 6, ..lstm() };
    let file = stack(&projected, "", &[]);
    assert_eq!(file.config(&cells::LSTM, "").unwrap(), projected);
    let message = refused(file.config(&cells::GRU, ""));
    assert_eq!(
        message,
        "model.safetensors: weight_hr_l0: expected none, for gru has no projection, got [3, 6] \
         (the shapes fit lstm or slstm with hidden_size 6)"
    );
    // Without the matrix of the projection, or the header's word for heads, it is neither.
    let heads = RnnConfig { recurrence: Recurrence::Heads(2), hidden_size: 6, ..lstm() };
    for config in [projected, heads] {
        let tensors: Vec<_> = parameters(&config).into_iter().filter(|p| !p.name.starts_with("weight_hr")).collect();
        let tensors: Vec<_> = tensors.into_iter().map(|p| (p.name, p.shape)).collect();
        let message = refused(with(&tensors, None).config(&cells::LSTM, ""));
        assert!(message.contains("weight_hh_l0: expected [4·H, H] = [24, 6] for lstm"), "{message}");
        assert!(message.contains("there is no weight_hr_l0; or of a recurrence that is not dense"), "{message}");
        if config.proj_size == 0 {
            let header = HashMap::from([("recurrence".to_string(), "heads:2".to_string())]);
            assert_eq!(with(&tensors, Some(header)).config(&cells::LSTM, "").unwrap(), config);
        }
    }
}

#[test]
fn prefixes_of_the_file_are_offered() {
    let one = stack(&lstm(), "lstm.", &[("fc.weight", &[7, 4])]);
    for wrong in ["", "encoder.", "lstm"] {
        let first = format!("model.safetensors: {wrong}weight_ih_l0: expected ");
        let hint = "got none (did you mean the prefix \"lstm.\"?)";
        for message in [refused(one.config(&cells::LSTM, wrong)), refused(one.weights::<f32>(&lstm(), wrong))] {
            assert!(message.starts_with(&first) && message.ends_with(hint), "{message}");
        }
    }
    let bare = stack(&lstm(), "", &[]);
    assert!(refused(bare.config(&cells::LSTM, "lstm.")).ends_with("(did you mean the prefix \"\"?)"));

    let gru = RnnConfig { cell: &cells::GRU, ..lstm() };
    let others: Vec<_> = parameters(&gru).into_iter().map(|p| (format!("dec.{}", p.name), p.shape)).collect();
    let others: Vec<_> = others.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let two = stack(&lstm(), "enc.", &others);
    let message = refused(two.config(&cells::LSTM, "rnn."));
    assert!(message.ends_with("got none (did you mean one of the prefixes \"dec.\", \"enc.\"?)"), "{message}");
    assert!(refused(two.config(&cells::LSTM, "enc")).ends_with("(did you mean the prefix \"enc.\"?)"));

    let none = file(&[("kernel", &[2]), ("recurrent", &[3])]);
    let message = refused(none.config(&cells::LSTM, ""));
    assert!(
        message.ends_with("(no tensor of the file is a layer's weight_ih_l0; it has kernel, recurrent)"),
        "{message}"
    );
    // Something of the stack is there: then it is a gap, or a layer without W.
    let gap = file(&[("lstm.weight_hh_l0", &[16, 4]), ("gru.weight_ih_l0", &[12, 4])]);
    assert!(refused(gap.config(&cells::LSTM, "lstm.")).ends_with("lstm.weight_ih_l0: expected a matrix, got none"));
}

/// The layout of any module of PyTorch with an embedding, an LSTM and a linear layer.
#[test]
fn a_module_is_read_and_saved_by_its_own_names() {
    let names = Names { layers: "lstm.", embedding: Some("embed.weight"), head: Some("fc.weight") };
    let head = Some(Head { size: 5, loss: None });
    let config = RnnConfig { num_layers: 2, direction: Direction::Bidirectional, vocabulary: Some(11), head, ..lstm() };
    let weights = Weights::<f32>::random(&config, 7).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.safetensors");
    weights.save(&config, &path, names).unwrap();

    let file = TensorFile::open(&path).unwrap();
    let mut theirs: Vec<String> = parameters(&RnnConfig { vocabulary: None, head: None, ..config.clone() })
        .iter()
        .map(|p| format!("lstm.{}", p.name))
        .chain(["embed.weight", "fc.weight", "fc.bias"].map(String::from))
        .collect();
    let mut ours = file.names();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
    assert_eq!(file.real::<f32>("fc.bias").unwrap().unwrap(), (vec![5], weights.head_bias.clone()));

    assert_eq!(file.config(&cells::LSTM, names).unwrap(), config);
    assert_eq!(file.weights::<f32>(&config, names).unwrap(), weights);
    assert_eq!(file.weights_partial::<f32>(&config, names).unwrap(), weights);
    // The layers alone, by their prefix; the other two are not of the stack then.
    let layers = RnnConfig { vocabulary: None, head: None, ..config.clone() };
    assert_eq!(file.config(&cells::LSTM, "lstm.").unwrap(), layers);
    assert_eq!(file.weights::<f32>(&layers, "lstm.").unwrap().layers, weights.layers);
    // Named, they are.
    let message = refused(file.weights::<f32>(&layers, names));
    let help = "set vocabulary: Some(11), head: Some(Head { size: 5, .. }), or call weights_partial to leave them out";
    assert!(message.contains("got 3 more: embed.weight, fc.bias, fc.weight;") && message.ends_with(help), "{message}");

    let mut session = Session::new(&Device::cpu(), &config, Shape { time: 2, batch: 1 }, &weights).unwrap();
    session.forward(&Input::of_ids(View::new(&[3, 10], &[2, 1]))).unwrap();
    assert_eq!(session.predictions().unwrap().shape, [2, 1, 5]);
}

#[test]
fn a_published_decoder_is_read_by_its_names() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/g2p_en/weights.safetensors");
    let file = TensorFile::open(path).unwrap();
    let names = Names { layers: "dec.", embedding: Some("dec.embedding"), head: Some("fc.weight") };
    let config = file.config(&cells::GRU, names).unwrap();
    let head = Some(Head { size: 74, loss: None });
    let sizes = RnnConfig { cell: &cells::GRU, input_size: 256, hidden_size: 256, ..Default::default() };
    assert_eq!(config, RnnConfig { vocabulary: Some(74), head, ..sizes });
    let by_hand = Weights::<f32>::from_named(&config, |name| {
        file.real(&match name {
            "embedding.weight" => "dec.embedding".to_string(),
            "head.weight" => "fc.weight".to_string(),
            "head.bias" => "fc.bias".to_string(),
            layer => format!("dec.{layer}"),
        })
    });
    assert_eq!(file.weights::<f32>(&config, names).unwrap(), by_hand.unwrap());
}

#[test]
fn names_that_do_not_fit_are_refused_with_what_would() {
    let others: [(&str, &[usize]); 4] =
        [("embed.weight", &[9, 3]), ("fc.weight", &[7, 4]), ("fc.bias", &[7]), ("other.weight", &[7, 5])];
    let file = stack(&lstm(), "lstm.", &others);
    let good = Names { layers: "lstm.", embedding: Some("embed.weight"), head: Some("fc.weight") };
    let config = |names: Names<'_>| refused(file.config(&cells::LSTM, names));
    assert_eq!(
        config(Names { embedding: Some("embedding.weight"), ..good }),
        "model.safetensors: embedding.weight: expected a matrix [V, I] with 3 columns, got none \
         (matrices of so many columns: embed.weight)"
    );
    assert_eq!(
        config(Names { embedding: Some("fc.weight"), ..good }),
        "model.safetensors: fc.weight: expected [V, I] with 3 columns, for that is what the layers have, got [7, 4]"
    );
    assert_eq!(
        config(Names { head: Some("out.weight"), ..good }),
        "model.safetensors: out.weight: expected a matrix [O, D·P] with 4 columns, got none \
         (matrices of so many columns: fc.weight)"
    );
    let module = "the head in Names: expected the name of its matrix, which ends in weight (fc.weight?), got ";
    assert_eq!(config(Names { head: Some("fc"), ..good }), format!("{module}fc"));
    assert_eq!(config(Names { head: Some("fc."), ..good }), format!("{module}fc."));
    // A prefix alone, where the configuration wants an embedding.
    let whole = file.config(&cells::LSTM, good).unwrap();
    assert_eq!(
        refused(file.weights::<f32>(&whole, "lstm.")),
        "model.safetensors: lstm.embedding.weight: expected a tensor of shape [9, 3], got none \
         (matrices of so many columns: embed.weight; Names { layers, embedding, head } say what they are called)"
    );
    // Two parameters of one name.
    let weights = file.weights::<f32>(&whole, good).unwrap();
    let twice = Names { embedding: Some("fc.weight"), ..good };
    let message = refused(weights.save(&whole, "unused.safetensors", twice));
    assert_eq!(message, "names to save under: expected a name for every parameter, got fc.weight twice");
}

/// A zip archive that begins with a file of this name, as far as that.
fn zip(name: &str) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.extend([0; 22]);
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(name.as_bytes());
    bytes.extend([0x55; 200]);
    bytes
}

#[test]
fn files_of_other_formats_are_called_by_their_names() {
    let (reads, tensors) = ("wgpu-rnn run reads it", "Tensors of wgpu-rnn-formats");
    let after = |first: &[u8]| [first, &[0x55; 100]].concat();
    let cases = [
        (zip("archive/data.pkl"), "this is a PyTorch zip archive", reads),
        (zip("model/data.pkl"), "this is a PyTorch zip archive", tensors),
        (zip("model/constants.pkl"), "this is a TorchScript archive", "torch.jit.load(path).state_dict()"),
        (b"PK\x03\x04".to_vec(), "this is a zip archive", "download it again"),
        (zip("x.npy"), "this is a NumPy .npz archive", tensors),
        (zip("metadata.json"), "this is a Keras .keras archive", "KerasFile of wgpu-rnn-formats"),
        (
            after(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."),
            "this is a PyTorch file of before 1.6",
            reads,
        ),
        (after(b"\x80\x04\x95"), "this is a Python pickle", "safetensors.numpy.save_file"),
        (after(b"\x89HDF\r\n\x1a\n"), "this is an HDF5 file", "KerasFile of wgpu-rnn-formats"),
        (after(b"GGUF\x03\x00\x00\x00"), "this is a GGUF file", "gguf"),
        (after(b"\x93NUMPY\x01\x00"), "this is a NumPy .npy file", "safetensors.numpy.save_file"),
        (after(b"\x08\x0a\x12\x07pytorch"), "this is an ONNX model", "OnnxFile"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "this is a Git LFS pointer", "git lfs pull"),
        (b"{\n  \"weight_map\": {}}".to_vec(), "this is the index of several safetensors files", reads),
        (b"{\"a\": 1}".to_vec(), "this is JSON text", "the file that has the weights"),
        (b"<!DOCTYPE html><html>".to_vec(), "this is a web page", "download"),
        (Vec::new(), "this is an empty file", ""),
        (vec![0xff; 64], "announce a header of 18446744073709551615 bytes, but the file has 64", "another format"),
    ];
    for (bytes, what, help) in cases {
        let Err(error) = TensorFile::from_bytes("model.bin", bytes) else { panic!("{what} was taken") };
        let message = error.to_string();
        assert!(message.starts_with("model.bin: not safetensors: "), "{message}");
        assert!(message.contains(what) && message.contains(help), "{message}\nlacks\n{what}\n{help}");
        assert!(!message.contains("header too large"), "{message}");
    }
    {
        let config = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 5, ..Default::default() };
        let weights = Weights::<f32>::random(&config, 1).unwrap();
        let model = wgpu_rnn_formats::onnx::Export::default().bytes(&config, &weights).unwrap();
        let message = refused(TensorFile::from_bytes("m.onnx", model));
        assert!(message.contains("this is an ONNX model"), "{message}");
    }
    // Whatever their lengths spell, files with a header are safetensors; cut short, they are that.
    for length in [0x0280u64, 0x0480, 0x0308, 0x4b50] {
        let header = format!("{{{}}}", " ".repeat(length as usize - 2));
        let whole = [&length.to_le_bytes()[..], header.as_bytes()].concat();
        assert!(TensorFile::from_bytes("a", whole.clone()).is_ok());
        let message = refused(TensorFile::from_bytes("a", whole[..whole.len() - 1].to_vec()));
        assert!(message.contains("cut short"), "{message}");
    }
}

#[test]
fn errors_and_configurations_print_for_people() {
    let error = Weights::<f32>::random(&RnnConfig { input_size: 0, ..lstm() }, 1).unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    let help = "name both sizes: RnnConfig::new(cell, input_size, hidden_size)";
    assert_eq!(format!("{error:?}"), format!("input_size: expected 1..=1073741824 ({help}), got 0"));
    let reason = Error::NoAdapter { reason: "none found".into() };
    assert_eq!(format!("{reason:?}"), "no GPU adapter: none found");
    for cell in cells::ALL {
        assert_eq!(format!("{cell:?}"), cell.name);
        let text = format!("{:?}", RnnConfig { cell, ..RnnConfig::lstm(1, 1) });
        assert!(text.starts_with(&format!("RnnConfig {{ cell: {}, input_size: 1", cell.name)), "{text}");
        assert!(text.len() < 600, "{} bytes", text.len());
    }
}

/// Numbers between −0.5 and 0.5, another sequence for every seed.
fn numbers(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|n| ((n * 7919 + seed * 104_729) % 1009) as f64 / 1009.0 - 0.5).collect()
}

/// `[T, B, width]` as `[B, T, width]`, or, with the channels in front of time, `[B, width, T]`.
fn stored(values: &[f64], Shape { time, batch }: Shape, channels: bool) -> Vec<f64> {
    let width = values.len() / time / batch;
    let mut out = vec![0.0; values.len()];
    for (n, &v) in values.iter().enumerate() {
        let (t, b, c) = (n / width / batch, n / width % batch, n % width);
        out[if channels { (b * width + c) * time + t } else { (b * time + t) * width + c }] = v;
    }
    out
}

/// A golden of a linear recurrence, its results by the naive loop in f64. `widths`: of every port, a parameter's over all heads.
fn golden(kind: &str, rule: &'static Rule, shape: Shape, sizes: [usize; 3], fields: &str) -> Vec<u8> {
    let [heads, keys, values] = sizes;
    let mamba = kind == "mamba_selective_scan";
    let Shape { time, batch } = shape;
    let width = |name: &str| match (mamba, name) {
        (true, "u" | "dt" | "delta" | "D" | "dt_bias") => heads,
        (true, "B" | "C") => keys,
        _ => heads * keys,
    };
    let rows = time * batch;
    let ports: Vec<Vec<f64>> = rule
        .inputs
        .iter()
        .map(|p| rows * width(p.name))
        .chain(rule.params.iter().map(|p| width(p.name)))
        .enumerate()
        .map(|(n, count)| numbers(count, n + 1))
        .collect();
    let initial = if mamba { vec![0.0; batch * heads * keys] } else { numbers(batch * heads * keys * values, 50) };
    let problem = Problem {
        rule,
        sizes,
        shape,
        ports,
        initial: initial.clone(),
        lengths: Vec::new(),
        resets: Vec::new(),
        reverse: false,
    };
    let (up_y, up_last) = (numbers(rows * heads * values, 60), numbers(initial.len(), 61));
    let (results, gradients) = naive_linear::run(&problem, &up_y, &up_last).unwrap();

    let mut tensors: Vec<(String, Vec<usize>, Vec<f64>)> = Vec::new();
    let moving = |width: usize| match mamba {
        true => vec![batch, width, time],
        false => vec![batch, time, heads, keys],
    };
    let mut add = |name: String, shape: Vec<usize>, values: Vec<f64>| tensors.push((name, shape, values));
    let names = rule.inputs.iter().chain(rule.params).map(|p| p.name).enumerate();
    for ((n, name), (port, gradient)) in names.zip(problem.ports.iter().zip(&gradients.ports)) {
        if n < rule.inputs.len() {
            let name = if name == "dt" { "delta" } else { name };
            add(format!("in.{name}"), moving(width(name)), stored(port, shape, mamba));
            add(format!("grad.{name}"), moving(width(name)), stored(gradient, shape, mamba));
        } else if name == "A_log" {
            // A = −e^x, and its gradient is that by x over A.
            let a: Vec<f64> = port.iter().map(|x| -x.exp()).collect();
            add("grad.A".into(), vec![heads, keys], gradient.iter().zip(&a).map(|(g, a)| g / a).collect());
            add("in.A".into(), vec![heads, keys], a);
        } else {
            let (name, shape) = match (mamba, name) {
                (true, "dt_bias") => ("delta_bias", vec![heads]),
                (true, name) => (name, vec![heads]),
                (false, name) => (name, vec![heads, keys]),
            };
            add(format!("in.{name}"), shape.clone(), port.clone());
            add(format!("grad.{name}"), shape, gradient.clone());
        }
    }
    let loss = up_y.iter().zip(&results.y).chain(up_last.iter().zip(&results.last)).map(|(u, v)| u * v).sum();
    add("out.loss".into(), vec![1], vec![loss]);
    add("out.y".into(), moving(heads * values), stored(&results.y, shape, mamba));
    add("up.y".into(), moving(heads * values), stored(&up_y, shape, mamba));
    let (state, last) = match mamba {
        true => (vec![batch, heads, keys], "last_state"),
        false => (vec![batch, heads, values, keys], "s"),
    };
    add(format!("out.{last}"), state.clone(), results.last);
    add(format!("up.{last}"), state.clone(), up_last);
    if !mamba {
        add("in.s0".into(), state.clone(), initial);
        add("grad.s0".into(), state, gradients.initial);
    }

    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, v)| v.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), data)| (name, TensorView::new(Dtype::F64, shape.clone(), data).unwrap()));
    let config = format!("{{\"kind\": \"{kind}\", \"T\": {time}, \"B\": {batch}, {fields}}}");
    serialize(views, Some(HashMap::from([("config".to_string(), config)]))).unwrap()
}

/// States of all steps take more than the file: they are not in it, and a machine has room for them.
#[test]
fn goldens_of_large_states_are_read_and_pass() {
    let mamba = (
        "mamba_selective_scan",
        &rules::MAMBA,
        Shape { time: 130, batch: 2 },
        [32, 16, 1],
        "\"D\": 32, \"N\": 16, \"z\": false",
    );
    let rwkv = |kind, rule| (kind, rule, Shape { time: 67, batch: 2 }, [2, 16, 16], "\"H\": 2, \"N\": 16");
    let cases =
        [mamba, rwkv("rwkv5_wkv", &rules::RWKV5), rwkv("rwkv6_wkv", &rules::RWKV6), rwkv("rwkv7_wkv", &rules::RWKV7)];
    for (kind, rule, shape, sizes, fields) in cases {
        let bytes = golden(kind, rule, shape, sizes, fields);
        let states = 8 * shape.time * shape.batch * sizes.iter().product::<usize>();
        assert!(states > bytes.len(), "{kind}: {states} bytes of states, {} of the file", bytes.len());
        let file = TensorFile::from_bytes(format!("{kind}.safetensors"), bytes).unwrap();
        let golden = Golden::read(&file).unwrap_or_else(|e| panic!("{e}"));
        for precision in [Precision::F64, Precision::F32] {
            let report = verify(&golden, &Device::cpu(), None, precision).unwrap();
            assert!(report.passed(), "{kind} {precision:?}: {:?}", report.worst());
        }
    }
}
