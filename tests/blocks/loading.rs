//! Parameters from files by name: what is missing, left over or of another shape is named.

use super::{flat, models, params};
use safetensors::tensor::{Dtype, TensorView, serialize};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Tensor, blocks};

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
