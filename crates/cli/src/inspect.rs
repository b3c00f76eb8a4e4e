//! `wgpu-rnn inspect`: what is recurrent in a file, and the command that runs it.

use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wgpu_rnn::{Activation, RnnConfig};
use wgpu_rnn_formats::layers::Summary;
use wgpu_rnn_formats::{Blocks, Inspection, Is, Part, Whole, WholeValue};

#[derive(clap::Args)]
pub struct Args {
    /// safetensors (or the index of several), .pt, .pth, .npz, ONNX, .keras or Keras's .h5.
    file: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let found = wgpu_rnn_formats::inspect(&args.file)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", object(&found))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}: {}, {} bytes", found.path.display(), found.kind.what(), found.size)?;
    if found.parts.is_empty() {
        writeln!(out, "no recurrent layer or block that is known by its names")?;
    }
    for part in &found.parts {
        write(&mut out, &found.path, part)?;
    }
    match &found.whole {
        None => {}
        Some(Err(e)) => writeln!(out, "\nas a whole: not run: {e}")?,
        Some(Ok(model)) => {
            writeln!(out, "\nas a whole: runs")?;
            for (what, values) in [("input", &model.inputs), ("output", &model.outputs)] {
                values.iter().try_for_each(|v| writeln!(out, "  {what} {} {}", v.name, v.shape))?;
            }
            writeln!(out, "  {}", whole_command(&found.path, model))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What runs a whole model, to be typed.
fn whole_command(file: &Path, model: &Whole) -> String {
    let ends = |short: &str, long: &str, letter: char, values: &[WholeValue]| match values {
        [_] => format!(" --{short} {letter}.npy"),
        several => several.iter().map(|v| format!(" --{long} {}", quoted(&format!("{}={0}.npy", v.name)))).collect(),
    };
    let (from, to) = (ends("input", "in", 'X', &model.inputs), ends("output", "out", 'Y', &model.outputs));
    format!("wgpu-rnn run {}{from}{to}", quoted(&file.display().to_string()))
}

fn write(out: &mut impl Write, file: &Path, part: &Part) -> std::io::Result<()> {
    let element = part.element.map_or(String::new(), |e| format!("; {}", e.name()));
    writeln!(out, "\n{}", if part.name.is_empty() { "(no name)" } else { &part.name })?;
    writeln!(out, "  {}{element}", part.origin)?;
    match &part.is {
        Is::Layer(config, others) => {
            writeln!(out, "  {}", Summary(config))?;
            let activations = activations(config).into_iter().map(|(what, of)| format!("{what} {of}"));
            let activations = activations.collect::<Vec<_>>().join(", ");
            writeln!(out, "  states {}; activations {activations}", states(config).join(", "))?;
            for input in &part.inputs {
                writeln!(out, "  {input}")?;
            }
            if !others.is_empty() {
                let names: Vec<_> = others.iter().map(|cell| cell.name).collect();
                writeln!(out, "  the shapes fit {} too: --cell says which", names.join(", "))?;
            }
        }
        Is::Block(Blocks { count, of, notes }) => {
            writeln!(out, "  {count} block{}: {of}", if *count == 1 { "" } else { "s" })?;
            notes.iter().try_for_each(|note| writeln!(out, "  {note}"))?;
        }
        Is::Unread(reason) => writeln!(out, "  not read: {reason}")?,
    }
    match command(file, part) {
        Some(command) => writeln!(out, "  {command}"),
        None => Ok(()),
    }
}

/// What runs a part, to be typed.
fn command(file: &Path, part: &Part) -> Option<String> {
    let Is::Layer(..) = part.is else { return None };
    let layer = if part.name.is_empty() { String::new() } else { format!(" --layer {}", quoted(&part.name)) };
    Some(format!("wgpu-rnn run {}{layer} --input X.npy --output Y.npy", quoted(&file.display().to_string())))
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// What goes from step to step: h, and what else the cell has.
fn states(config: &RnnConfig) -> Vec<&'static str> {
    let more = config.cell.states.iter().map(|s| s.name).filter(|name| *name != "h");
    std::iter::once("h").chain(more).collect()
}

/// What the cell calls an activation, and its function with its parameters.
pub fn activations(config: &RnnConfig) -> Vec<(&'static str, String)> {
    let given = |at: usize, own: Activation| config.activations.get(at).copied().unwrap_or(own);
    let one = |(at, &(what, own)): (usize, &(&'static str, Activation))| {
        let function = given(at, own);
        let parameters: Vec<_> = function.parameters().iter().map(f32::to_string).collect();
        let parameters = if parameters.is_empty() { String::new() } else { format!("({})", parameters.join(", ")) };
        (what, format!("{}{parameters}", function.name()))
    };
    config.cell.activations.iter().enumerate().map(one).collect()
}

/// What `wgpu-rnn inspect --json` prints.
pub fn object(found: &Inspection) -> Value {
    let parts: Vec<Value> = found.parts.iter().map(|part| of_part(&found.path, part)).collect();
    json!({
        "file": found.path.display().to_string(),
        "kind": format!("{:?}", found.kind),
        "what": found.kind.what(),
        "bytes": found.size,
        "parts": parts,
        "whole": found.whole.as_ref().map(|whole| of_whole(&found.path, whole)),
    })
}

fn of_whole(file: &Path, whole: &wgpu_rnn::Result<Whole>) -> Value {
    let values = |values: &[WholeValue]| -> Vec<Value> {
        values.iter().map(|v| json!({ "name": v.name, "shape": v.shape })).collect()
    };
    match whole {
        Ok(model) => {
            json!({ "inputs": values(&model.inputs), "outputs": values(&model.outputs), "run": whole_command(file, model) })
        }
        Err(e) => json!({ "error": e.to_string() }),
    }
}

fn of_part(file: &Path, part: &Part) -> Value {
    let mut value = json!({
        "name": part.name,
        "origin": part.origin,
        "element": part.element.map(|e| e.name()),
        "inputs": part.inputs,
        "run": command(file, part),
    });
    let more = match &part.is {
        Is::Layer(config, others) => json!({
            "cell": config.cell.name,
            "input_size": config.input_size,
            "hidden_size": config.hidden_size,
            "proj_size": config.proj_size,
            "layers": config.num_layers,
            "direction": format!("{:?}", config.direction).to_lowercase(),
            "bias": format!("{:?}", config.bias).to_lowercase(),
            "batch_first": config.layout == wgpu_rnn::Layout::BatchFirst,
            "states": states(config),
            "activations": activations(config).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "other_cells": others.iter().map(|cell| cell.name).collect::<Vec<_>>(),
        }),
        Is::Block(Blocks { count, of, notes }) => json!({ "blocks": count, "of": of, "notes": notes }),
        Is::Unread(reason) => json!({ "error": reason.to_string() }),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}
