//! Parameters from files by name: what is missing, left over or of another shape is named.

use super::{flat, models, params, tensor};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::sync::Arc;
use wgpu_rnn::blocks::Rwkv7Names;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::network::{NetworkInput, NetworkOptions, NetworkPlan, NetworkSession};
use wgpu_rnn::{Device, Precision, Shape, Tensor, blocks};

type Tensors = Vec<(String, Tensor<f64>)>;

fn file(tensors: &[(String, Tensor<f64>)]) -> TensorFile {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, t)| t.data.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes);
    let views = views.map(|((n, t), b)| (n.clone(), TensorView::new(Dtype::F64, t.shape.clone(), b).unwrap()));
    TensorFile::from_bytes("model.safetensors", serialize(views, None).unwrap()).unwrap()
}

#[test]
fn what_a_file_holds_comes_back() {
    for model in models() {
        let network = model.network().unwrap();
        let named = params(&network, 3);
        let prefixed: Vec<_> = named.iter().map(|(n, t)| (format!("backbone.{n}"), t.clone())).collect();
        let loaded: Vec<f64> = network.load(&file(&prefixed), "backbone.", |_| false).unwrap();
        assert_eq!(loaded, flat(&network, &named));
        assert_eq!(network.named(&loaded).unwrap(), named);
    }
}

#[test]
fn names_and_shapes_are_those_of_checkpoints() {
    let network = blocks::Model::Rwkv6(blocks::Rwkv6 { num_layers: 2, ..Default::default() }).network().unwrap();
    let named = network.named(&vec![0f32; network.parameter_count()]).unwrap();
    let shape = |name: &str| named.iter().find(|(n, _)| n == name).map(|(_, t)| t.shape.clone());
    assert_eq!(shape("blocks.1.att.time_maa_w1"), Some(vec![2048, 160]));
    assert_eq!(shape("blocks.1.att.time_maa_w2"), Some(vec![5, 32, 2048]));
    assert_eq!(shape("blocks.1.att.time_faaaa"), Some(vec![32, 64]));
    assert_eq!(shape("blocks.0.ln0.bias"), Some(vec![2048]));
    assert_eq!(shape("blocks.1.ln0.bias"), None);
    let network = blocks::Model::Rwkv7(blocks::Rwkv7 { num_layers: 2, ..Default::default() }).network().unwrap();
    let named = network.named(&vec![0f32; network.parameter_count()]).unwrap();
    let shape = |name: &str| named.iter().find(|(n, _)| n == name).map(|(_, t)| t.shape.clone());
    assert_eq!(shape("blocks.0.att.r_k"), Some(vec![12, 64]));
    assert_eq!(shape("blocks.0.att.w1"), Some(vec![768, 64]));
    assert_eq!(shape("blocks.1.att.v2"), Some(vec![32, 768]));
    assert_eq!(shape("blocks.0.att.v2"), None);
    assert_eq!(shape("blocks.1.ffn.x_k"), Some(vec![1, 1, 768]));
}

#[test]
fn what_does_not_fit_is_named() {
    let network = models()[0].network().unwrap();
    let named = params(&network, 3);
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let mut changed = named.clone();
        change(&mut changed);
        network.load::<f32>(&file(&changed), "", |other| other == "embeddings.weight").unwrap_err().to_string()
    };
    let a_log = |t: &mut Tensors| t.iter().position(|(n, _)| n == "layers.1.mixer.A_log").unwrap();
    let message = refused(&|t| {
        let at = a_log(t);
        t.remove(at);
    });
    assert_eq!(message, "model.safetensors: layers.1.mixer.A_log: expected a tensor of shape [11, 3], got none");
    let message = refused(&|t| {
        let at = a_log(t);
        t[at].1.shape = vec![3, 11];
    });
    assert_eq!(message, "model.safetensors: layers.1.mixer.A_log: expected [11, 3], got [3, 11]");
    let message = refused(&|t| t.push(("layers.2.norm.weight".into(), Tensor { data: vec![1.0; 7], shape: vec![7] })));
    assert!(message.starts_with("model.safetensors: layers.2.norm.weight: expected none"), "{message}");
    // What the caller names is its own; dimensions of 1 do not count.
    let mut with_embedding = named.clone();
    with_embedding.push(("embeddings.weight".into(), Tensor { data: vec![0.0; 14], shape: vec![2, 7] }));
    with_embedding[0].1.shape.insert(0, 1);
    assert!(network.load::<f32>(&file(&with_embedding), "", |other| other == "embeddings.weight").is_ok());
    assert!(network.named(&[0f32; 3]).is_err());
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let wrong = [
        blocks::Model::Mamba2(blocks::Mamba2 { num_heads: 4, n_groups: 3, ..Default::default() }),
        blocks::Model::Mamba2(blocks::Mamba2 { n_groups: 0, ..Default::default() }),
        blocks::Model::Mamba(blocks::Mamba { conv_kernel: 0, ..Default::default() }),
        blocks::Model::Mamba(blocks::Mamba { state_size: 0, ..Default::default() }),
        blocks::Model::Rwkv4(blocks::Rwkv4 { hidden_size: 0, ..Default::default() }),
        blocks::Model::Rwkv6(blocks::Rwkv6 { head_size: 7, ..Default::default() }),
        blocks::Model::Rwkv7(blocks::Rwkv7 { head_size: 0, ..Default::default() }),
        blocks::Model::Mamba(blocks::Mamba { mixer_epsilon: Some(-1.0), ..Default::default() }),
        blocks::Model::Mamba(blocks::Mamba { mixer_epsilon: Some(f64::NAN), ..Default::default() }),
        blocks::Model::Mamba(blocks::Mamba { intermediate_size: usize::MAX, ..Default::default() }),
        blocks::Model::Mamba2(blocks::Mamba2 {
            hidden_size: 1 << 24,
            num_heads: 1 << 24,
            head_dim: 1 << 24,
            ..Default::default()
        }),
    ];
    for model in wrong {
        assert!(model.network().is_err(), "{model:?}");
    }
}

/// An RWKV-7 of heads of 64, for which the ε of all names are one.
fn rwkv7(names: blocks::Rwkv7Names) -> blocks::Model {
    blocks::Model::Rwkv7(blocks::Rwkv7 {
        hidden_size: 128,
        intermediate_size: 9,
        decay_rank: 2,
        rate_rank: 3,
        value_rank: 4,
        gate_rank: 5,
        num_layers: 2,
        names,
        ..Default::default()
    })
}

/// RWKV-LM's tensors as flash-linear-attention's `utils/convert_from_rwkv7.py` names and turns them.
fn converted(named: &[(String, Tensor<f64>)]) -> Tensors {
    let one = |(name, t): &(String, Tensor<f64>)| {
        let modules = [
            ("blocks.0.ln0", "layers.0.pre_norm"),
            ("blocks.", "layers."),
            ("ln_out", "norm"),
            ("ln1", "attn_norm"),
            ("ln2", "ffn_norm"),
            ("att.receptance", "att.r_proj"),
            ("att.key", "att.k_proj"),
            ("att.value", "att.v_proj"),
            ("att.output", "att.o_proj"),
            ("att.ln_x", "att.g_norm"),
            (".att.", ".attn."),
        ];
        let mut name = modules.iter().fold(name.clone(), |name, (from, to)| name.replace(from, to));
        let (before, last) = name.rsplit_once('.').map(|(b, l)| (b.to_string(), l.to_string())).unwrap();
        let mut tensor = t.clone();
        if let (Some(kind @ ('w' | 'a' | 'v' | 'g')), Some(number), 2) =
            (last.chars().next(), last.chars().nth(1), last.len())
        {
            let part = ["2.bias", "0.weight", "2.weight"][number.to_digit(10).unwrap() as usize];
            name = format!("{before}.{kind}_lora.lora.{part}");
            if number != '0' {
                let (rows, columns) = (t.shape[0], t.shape[1]);
                tensor.data = (0..t.data.len()).map(|n| t.data[n % rows * columns + n / rows]).collect();
                tensor.shape = vec![columns, rows];
            }
        }
        (name, tensor)
    };
    named.iter().map(one).collect()
}

/// `x_r` to `x_g` as one tensor `[6, hidden_size]`, as flash-linear-attention's first version had them.
fn stacked(named: &Tensors) -> Tensors {
    let mixes = ["r", "w", "k", "v", "a", "g"].map(|n| format!(".attn.x_{n}"));
    let (apart, mut all): (Tensors, Tensors) =
        named.iter().cloned().partition(|(name, _)| mixes.iter().any(|m| name.ends_with(m)));
    for layer in 0..2 {
        let of = |m: &String| &apart.iter().find(|(n, _)| *n == format!("layers.{layer}{m}")).unwrap().1;
        let data: Vec<f64> = mixes.iter().flat_map(|m| of(m).data.clone()).collect();
        all.push((format!("layers.{layer}.attn.x_x"), Tensor { data, shape: vec![6, 128] }));
    }
    all
}

#[test]
fn all_names_of_an_rwkv7_give_the_same_bits() {
    let mut results = Vec::new();
    let own = rwkv7(Rwkv7Names::RwkvLm).network().unwrap();
    let rwkv_lm = params(&own, 3);
    let fla = converted(&rwkv_lm);
    let first = stacked(&fla);
    for (names, tensors, prefix) in
        [(Rwkv7Names::RwkvLm, rwkv_lm, ""), (Rwkv7Names::Fla, fla, "model."), (Rwkv7Names::FlaStacked, first, "model.")]
    {
        let network = Arc::new(rwkv7(names).network().unwrap());
        let prefixed: Tensors = tensors.into_iter().map(|(n, t)| (format!("{prefix}{n}"), t)).collect();
        let loaded: Vec<f64> = network.load(&file(&prefixed), prefix, |_| false).unwrap();
        let device = Device::cpu();
        let shape = Shape { time: 5, batch: 2 };
        let options = NetworkOptions { precision: Precision::F64, ..Default::default() };
        let plan = NetworkPlan::new(&network, shape, &device.caps(), &options).unwrap();
        let mut session = NetworkSession::<f64>::new(&device, plan, &loaded).unwrap();
        let x = tensor(&[5, 2, 128], 6);
        results.push((names, session.forward(&NetworkInput::new(&[x.view()])).unwrap()));
    }
    for (names, result) in &results[1..] {
        assert_eq!(result.values, results[0].1.values, "{names:?}");
        assert_eq!(result.states, results[0].1.states, "{names:?}");
    }
}

#[test]
fn what_a_first_block_has_and_does_not_read_is_told() {
    for (names, unread) in [
        (Rwkv7Names::RwkvLm, ["blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"]),
        (
            Rwkv7Names::Fla,
            [
                "layers.0.attn.v_lora.lora.0.weight",
                "layers.0.attn.v_lora.lora.2.weight",
                "layers.0.attn.v_lora.lora.2.bias",
            ],
        ),
    ] {
        let model = rwkv7(names);
        let network = model.network().unwrap();
        let mut tensors = params(&network, 3);
        let without: Vec<f64> = network.load(&file(&tensors), "", |_| false).unwrap();
        tensors.extend(unread.map(|name| (name.to_string(), tensor(&[2], 9))));
        let refused = network.load::<f64>(&file(&tensors), "", |_| false).unwrap_err().to_string();
        assert!(refused.contains(unread[0]) || refused.contains("v_lora"), "{refused}");
        assert_eq!(network.load::<f64>(&file(&tensors), "", |name| model.is_unread(name)).unwrap(), without);
        // Of a later block they are read, and of no other model.
        assert!(!model.is_unread("blocks.1.att.v0") && !model.is_unread("layers.1.attn.v_lora.lora.2.bias"));
        assert!(models()[..4].iter().all(|m| !m.is_unread(unread[0])));
    }
}
