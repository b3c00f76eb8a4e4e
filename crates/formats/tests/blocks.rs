//! Blocks in files: what names tell, and what the `config.json` beside a checkpoint does.

use std::path::{Path, PathBuf};
use wgpu_rnn_formats::{Blocks, Is, inspect};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/data/block_golden/{name}.safetensors"))
}

/// The blocks of a copy of a golden, beside a `config.json` if there is to be one, and whose names they are.
fn beside(name: &str, config: Option<&str>) -> (Blocks, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::copy(golden(name), &file).unwrap();
    if let Some(text) = config {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
    }
    let parts = inspect(&file).unwrap().parts;
    let found = parts.into_iter().find_map(|p| match p.is {
        // The goldens' parameters are behind `w.`, their gradients behind `grad.`.
        Is::Block(blocks) if p.name.starts_with("w.") => Some((blocks, p.origin)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{name} has blocks"))
}

fn note(name: &str, config: Option<&str>) -> String {
    let (blocks, _) = beside(name, config);
    assert_eq!(blocks.notes.len(), 1, "{blocks:?}");
    blocks.notes.into_iter().next().unwrap_or_default()
}

#[test]
fn config_json_tells_falcon_mamba_from_mamba() {
    for name in ["mamba_l2", "falconmamba_l2"] {
        let said = |config: &str| note(name, Some(config));
        let falcon = said(r#"{"model_type": "falcon_mamba", "mixer_rms_eps": 0.001}"#);
        assert_eq!(falcon, "mixer_epsilon: 0.001 (FalconMamba, as config.json says)");
        let by_default = said(r#"{"model_type": "falcon_mamba"}"#);
        assert_eq!(by_default, "mixer_epsilon: 0.000001 (FalconMamba, as config.json says)");
        let wrong = said(r#"{"model_type": "falcon_mamba", "mixer_rms_eps": "small"}"#);
        assert!(wrong.starts_with("mixer_epsilon: not read") && wrong.contains("small"), "{wrong}");
        assert_eq!(said(r#"{"model_type": "mamba"}"#), "mixer_epsilon: none (Mamba, as config.json says)");
        for (config, reason) in [
            (None, "there is no config.json beside the file"),
            (Some(r#"{"hidden_size": 3}"#), "the config.json beside the file has no model_type"),
            (Some(r#"{"model_type": "#), "the config.json beside the file is not read"),
            (Some("[1, 2]"), "has no model_type"),
            (Some(r#"{"model_type": "other"}"#), "config.json says \"other\", which is neither"),
        ] {
            let said = note(name, config);
            assert!(said.starts_with("mixer_epsilon: none (taken as Mamba; FalconMamba has the same"), "{said}");
            assert!(said.contains(reason), "{said}");
        }
    }
}

#[test]
fn config_json_tells_groups() {
    // n_groups 3, state_size 4.
    let said = |config: &str| note("mamba2_groups", Some(config));
    assert_eq!(said(r#"{"n_groups": 3}"#), "n_groups: 3, so state_size: 4 (as config.json says)");
    assert_eq!(said(r#"{"ssm_cfg": {"ngroups": 6}}"#), "n_groups: 6, so state_size: 2 (as config.json says)");
    let python =
        r#"{"what": "an \"Infinity\" in text", "time_step_limit": [-Infinity, Infinity], "x": NaN, "n_groups": 3}"#;
    assert_eq!(said(python), "n_groups: 3, so state_size: 4 (as config.json says)");
    for groups in ["5", "0", "-1", "\"3\"", "1e40"] {
        let said = said(&format!(r#"{{"n_groups": {groups}}}"#));
        assert!(said.contains("no divisor"), "{said}");
    }
    let without = note("mamba2_groups", None);
    assert!(without.starts_with("n_groups: 1, so state_size: 12 (") && without.contains("no config.json"), "{without}");
}

#[test]
fn names_tell_whose_rwkv7_it_is() {
    let (blocks, origin) = beside("rwkv7_l2", None);
    assert_eq!((blocks.count, blocks.of, origin.as_str()), (2, "wgpu_rnn::blocks::Rwkv7", "names of RWKV-LM x070"));
    assert!(blocks.notes.is_empty(), "{blocks:?}");
    let (blocks, origin) = beside("rwkv7fla_l2", None);
    assert_eq!((blocks.count, blocks.of), (2, "wgpu_rnn::blocks::Rwkv7"));
    assert_eq!(origin, "names of flash-linear-attention RWKV7Model");
    assert_eq!(blocks.notes, ["names: Rwkv7Names::Fla"]);
}

/// What a file of zeros of these names is said to have.
fn of_names(names: &[&str]) -> Vec<Blocks> {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let views = names.iter().map(|n| (n.to_string(), TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, serialize(views, None).unwrap()).unwrap();
    let blocks = |p: wgpu_rnn_formats::Part| match p.is {
        Is::Block(blocks) => Some(blocks),
        _ => None,
    };
    inspect(&file).unwrap().parts.into_iter().filter_map(blocks).collect()
}

#[test]
fn what_nothing_reads_is_said() {
    let found =
        of_names(&["blocks.0.att.r_k", "blocks.0.att.x_r", "blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"]);
    assert_eq!(found.len(), 1);
    let expected = "not read, for the first block has no use for them: att.v0, att.v1, att.v2 (Model::is_unread)";
    assert_eq!(found[0].notes, [expected]);
    let found = of_names(&[
        "model.layers.0.attn.r_k",
        "model.layers.0.attn.x_x",
        "model.layers.1.attn.r_k",
        "model.layers.1.attn.x_x",
    ]);
    assert_eq!((found.len(), found[0].count), (1, 2));
    assert_eq!(found[0].notes, ["names: Rwkv7Names::FlaStacked"]);
    // Shapes that a Mamba-2 cannot have.
    let found = of_names(&["layers.0.mixer.A_log", "layers.0.mixer.norm.weight"]);
    assert!(found.len() == 1 && found[0].notes.is_empty(), "{found:?}");
}
