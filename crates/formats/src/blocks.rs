//! Blocks of published models among the named tensors of a file: which there are, by their names; and what names and shapes do not tell,
//! by the `config.json` that stands beside a checkpoint.
//!
//! A block is a row of `KNOWN`.

use crate::element::Element;
use crate::tensors::Tensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Blocks of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// How many.
    pub count: usize,
    /// What of the library makes their network: `wgpu_rnn::blocks::Mamba`; for an operator what runs it.
    pub of: &'static str,
    /// What is to be set in it beside the sizes, and how that is known: `mixer_epsilon 0.000001 (FalconMamba), as config.json says`. Where
    /// the file does not tell and there is no `config.json` beside it: what was taken, and what it may be too.
    pub notes: Vec<String>,
}

/// Blocks under one name in a file.
pub(crate) struct Found {
    /// What stands before their numbers: `backbone.layers`.
    pub name: String,
    /// Whose names they are.
    pub origin: String,
    /// The number format of the first of the tensors that they are known by.
    pub element: Option<Element>,
    pub blocks: Blocks,
}

/// A block, by two tensors that it has.
struct Known {
    signs: [&'static str; 2],
    /// Whose names these are.
    names: &'static str,
    of: &'static str,
    /// What is to be said of it beside; given the file, what stands before the first of its blocks' tensors, and what `config.json` says.
    notes: fn(&Tensors, &str, &Config) -> Vec<String>,
}

const KNOWN: [Known; 7] = [
    Known {
        signs: ["mixer.A_log", "mixer.x_proj.weight"],
        names: "transformers MambaModel and FalconMambaModel, and of mamba_ssm",
        of: "wgpu_rnn::blocks::Mamba",
        notes: falcon_mamba,
    },
    Known {
        signs: ["mixer.A_log", "mixer.norm.weight"],
        names: "transformers Mamba2Model, and of mamba_ssm",
        of: "wgpu_rnn::blocks::Mamba2",
        notes: groups,
    },
    Known {
        signs: ["attention.time_first", "attention.time_decay"],
        names: "transformers RwkvModel",
        of: "wgpu_rnn::blocks::Rwkv4",
        notes: nothing,
    },
    Known {
        signs: ["att.time_faaaa", "att.time_maa_x"],
        names: "RWKV-LM x060",
        of: "wgpu_rnn::blocks::Rwkv6",
        notes: nothing,
    },
    Known { signs: ["att.r_k", "att.x_r"], names: "RWKV-LM x070", of: "wgpu_rnn::blocks::Rwkv7", notes: first_values },
    Known {
        signs: ["attn.r_k", "attn.x_r"],
        names: "flash-linear-attention RWKV7Model",
        of: "wgpu_rnn::blocks::Rwkv7",
        notes: |_, _, _| vec!["names: Rwkv7Names::Fla".into()],
    },
    Known {
        signs: ["attn.r_k", "attn.x_x"],
        names: "flash-linear-attention RWKV7Model, its first version",
        of: "wgpu_rnn::blocks::Rwkv7",
        notes: |_, _, _| vec!["names: Rwkv7Names::FlaStacked".into()],
    },
];

/// The blocks of a file, those of one model as one.
pub(crate) fn find(file: &Tensors) -> Vec<Found> {
    let mut found: BTreeMap<(String, usize), (usize, String, Option<Element>)> = BTreeMap::new();
    for (kind, known) in KNOWN.iter().enumerate() {
        for name in file.names() {
            let Some(block) = name.strip_suffix(known.signs[0]) else { continue };
            if file.shape(&format!("{block}{}", known.signs[1])).is_some() {
                // `backbone.layers.3.` is one of `backbone.layers`.
                let model = block.trim_end_matches('.').trim_end_matches(|c: char| c.is_ascii_digit());
                let entry = (0, block.to_string(), file.element(name));
                found.entry((model.trim_end_matches('.').into(), kind)).or_insert(entry).0 += 1;
            }
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let config = Config::beside(file.path());
    let one = |((name, kind), (count, block, element)): ((String, usize), (usize, String, Option<Element>))| {
        let Known { names, of, notes, .. } = KNOWN[kind];
        let blocks = Blocks { count, of, notes: notes(file, &block, &config) };
        Found { name, origin: format!("names of {names}"), element, blocks }
    };
    found.into_iter().map(one).collect()
}

/// More than any `config.json` has, in bytes.
const LARGEST: u64 = 1 << 20;

/// The `config.json` in a file's folder.
enum Config {
    Absent,
    Unread(String),
    Read(Value),
}

impl Config {
    fn beside(file: &Path) -> Self {
        let path = file.with_file_name("config.json");
        match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::Absent,
            Err(e) => return Self::Unread(e.to_string()),
            Ok(found) if found.len() > LARGEST => return Self::Unread(format!("{} bytes", found.len())),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
        match text.and_then(|text| serde_json::from_str(&without_infinities(&text)).map_err(|e| e.to_string())) {
            Ok(value) => Self::Read(value),
            Err(reason) => Self::Unread(reason),
        }
    }

    /// What it says of `field`, or why it says nothing.
    fn get(&self, field: &str) -> Result<&Value, String> {
        match self {
            Self::Absent => Err("there is no config.json beside the file".into()),
            Self::Unread(reason) => Err(format!("the config.json beside the file is not read: {reason}")),
            Self::Read(value) => value.get(field).ok_or(format!("the config.json beside the file has no {field}")),
        }
    }
}

/// Python writes numbers that JSON does not have: transformers 4 wrote `"time_step_limit": [0.0, Infinity]`. They become null; text in
/// strings stays.
fn without_infinities(text: &str) -> String {
    let (mut out, mut within) = (String::with_capacity(text.len()), false);
    for (n, part) in text.split('"').enumerate() {
        if n > 0 {
            out.push('"');
        }
        if within {
            out.push_str(part);
            // A quote behind an odd number of backslashes does not end a string.
            within = (part.len() - part.trim_end_matches('\\').len()) % 2 == 1;
        } else {
            let part = part.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null");
            out.push_str(&part);
            within = true;
        }
    }
    out
}

fn nothing(_: &Tensors, _: &str, _: &Config) -> Vec<String> {
    Vec::new()
}

/// FalconMamba's norms have no tensors: transformers makes them where `model_type` is falcon_mamba.
fn falcon_mamba(_: &Tensors, _: &str, config: &Config) -> Vec<String> {
    let epsilon = || match config.get("mixer_rms_eps").map(|v| (v, v.as_f64())) {
        Ok((_, Some(epsilon))) => Ok(format!("{epsilon}")),
        Ok((other, None)) => Err(format!("mixer_rms_eps is {other}, not a number")),
        // What transformers takes then.
        Err(_) => Ok("0.000001".into()),
    };
    let said = match config.get("model_type") {
        Ok(Value::String(kind)) if kind == "falcon_mamba" => match epsilon() {
            Ok(epsilon) => format!("mixer_epsilon: {epsilon} (FalconMamba, as config.json says)"),
            Err(reason) => format!("mixer_epsilon: not read (FalconMamba, as config.json says): {reason}"),
        },
        Ok(Value::String(kind)) if kind == "mamba" => "mixer_epsilon: none (Mamba, as config.json says)".into(),
        Ok(other) => format!(
            "mixer_epsilon: none (taken as Mamba; FalconMamba has the same names and shapes; config.json says {other}, which is neither)"
        ),
        Err(reason) => {
            format!(
                "mixer_epsilon: none (taken as Mamba; FalconMamba has the same names and shapes; {reason}, which would tell)"
            )
        }
    };
    vec![said]
}

/// Shapes have the product of groups and state size alone.
fn groups(file: &Tensors, block: &str, config: &Config) -> Vec<String> {
    let size = |name: &str| file.shape(&format!("{block}{name}")).and_then(|shape| shape.first().copied());
    let shared = size("mixer.conv1d.weight").zip(size("mixer.norm.weight"));
    let Some(shared) = shared.and_then(|(all, own)| all.checked_sub(own)).map(|both| both / 2) else {
        return Vec::new();
    };
    // transformers' name, and that of mamba_ssm in the configuration of a layer.
    let said = config.get("n_groups").or_else(|reason| match config.get("ssm_cfg") {
        Ok(layer) => layer.get("ngroups").ok_or(reason),
        Err(_) => Err(reason),
    });
    let note = match said.map(|v| (v, v.as_u64().and_then(|n| usize::try_from(n).ok()))) {
        Ok((_, Some(groups))) if groups > 0 && shared.is_multiple_of(groups) => {
            format!("n_groups: {groups}, so state_size: {} (as config.json says)", shared / groups)
        }
        Ok((other, _)) => {
            format!("n_groups · state_size: {shared}, of which the {other} groups of config.json are no divisor")
        }
        Err(reason) => format!(
            "n_groups: 1, so state_size: {shared} (the shapes have their product alone; {reason}, which would tell)"
        ),
    };
    vec![note]
}

/// Which tensors of an RWKV-7's first block nothing reads.
fn first_values(file: &Tensors, block: &str, _: &Config) -> Vec<String> {
    let there = ["att.v0", "att.v1", "att.v2"].into_iter().filter(|v| file.shape(&format!("{block}{v}")).is_some());
    let there: Vec<&str> = there.collect();
    if there.is_empty() || !block.ends_with("blocks.0.") {
        return Vec::new();
    }
    vec![format!("not read, for the first block has no use for them: {} (Model::is_unread)", there.join(", "))]
}
