//! `wgpu-rnn run`: a whole model, or a trained layer or stack, out of a file of any kind that has one, over `.npy` inputs.

use super::layer::{Layer, LayerArgs, given};
use super::model::PlaceArgs;
use super::whole::{self, Ends};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wgpu_rnn::{Error, Initial, Input, Layout, Output, Result, RnnConfig, Session, Shape, Tensor};
use wgpu_rnn_formats::npy;
use wgpu_rnn_formats::onnx::Source;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    layer: LayerArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// x and y are `[B, T, .]`, not `[T, B, .]`; a node of an ONNX model says so itself.
    #[arg(long, conflicts_with = "onnx")]
    batch_first: bool,
    /// Each sequence's own length, in 0..=T; all T without it.
    #[arg(long, value_name = "N,N,..", value_delimiter = ',')]
    lengths: Option<Vec<usize>>,
    /// h0 `[L*D, B, P or H]`, .npy; zeros without it.
    #[arg(long, value_name = "FILE")]
    h0: Option<PathBuf>,
    /// c0 `[L*D, B, H]` (sLSTM: `[L*D, B, 3*H]`), .npy; zeros without it.
    #[arg(long, value_name = "FILE")]
    c0: Option<PathBuf>,
    /// x `[T, B, I]` or, for a single sequence, `[T, I]`: .npy, f16, f32 or f64, little-endian, C order.
    #[arg(long, value_name = "X.npy", required_unless_present = "inputs")]
    input: Option<PathBuf>,
    /// Where y `[T, B, D*(P or H)]` goes, .npy, f32; 0 past a sequence's end.
    #[arg(long, value_name = "Y.npy", required_unless_present = "outputs")]
    output: Option<PathBuf>,
    /// An input of a whole model, by its name; several times.
    #[arg(long = "in", value_name = "NAME=X.npy", value_parser = named, requires = "file", conflicts_with = "input")]
    inputs: Vec<(String, PathBuf)>,
    /// Where an output of a whole model goes, by its name; several times.
    #[arg(long = "out", value_name = "NAME=Y.npy", value_parser = named, requires = "file", conflicts_with = "output")]
    outputs: Vec<(String, PathBuf)>,
    /// Where hn `[L*D, B, P or H]` goes, .npy, f32.
    #[arg(long, value_name = "FILE")]
    hn: Option<PathBuf>,
    /// Where cn `[L*D, B, H]` (sLSTM: `[L*D, B, 3*H]`) goes, .npy, f32.
    #[arg(long, value_name = "FILE")]
    cn: Option<PathBuf>,
}

/// `NAME=FILE`.
fn named(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.into(), file.into())),
        _ => Err("expected NAME=FILE".into()),
    }
}

pub fn run(args: &Args) -> std::result::Result<ExitCode, Box<dyn std::error::Error>> {
    let mut opened = args.layer.open()?;
    if let Some(file) = opened.take_if(|file| file.holds_a_whole_model() && !args.asks_for_a_layer()) {
        let Args { input, output, inputs, outputs, .. } = args;
        let ends = Ends { input: input.as_deref(), output: output.as_deref(), inputs, outputs };
        whole::run(file, &ends, &args.place)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (Some(input), Some(output)) = (&args.input, &args.output) else {
        let expected = "--input and --output, for a layer has one of each";
        return Err(mismatch("a layer", expected, "--in or --out").into());
    };
    let Layer { config, weights, h0, c0, lengths } = args.layer.read(opened.as_ref(), args.batch_first)?;
    let cell = config.cell;
    if let (false, Some(path)) = (cell.has_cell_state(), &args.cn) {
        let expected = format!("none ({} has no cell state)", cell.name);
        return Err(mismatch("--cn", expected, path.display()).into());
    }
    let x = npy::read::<f32>(input)?;
    let shape = input_shape(&config, &x.shape)?;
    if args.layer.file.is_some() {
        let order = if config.layout == Layout::BatchFirst { "[B, T, I]" } else { "[T, B, I]" };
        eprintln!("x: {:?} as {order}: T={} B={} I={}", x.shape, shape.time, shape.batch, config.input_size);
    }
    let read = |path: &Option<PathBuf>| path.as_ref().map(npy::read::<f32>).transpose();
    let [h0, c0] = [h0, c0].map(|state| spread(state, shape.batch));
    let (h0, c0) = (given("--h0", read(&args.h0)?, h0)?, given("--c0", read(&args.c0)?, c0)?);
    let lengths = given("--lengths", args.lengths.clone(), lengths)?;

    let device = args.place.device()?;
    let plan = args.place.plan(&config, shape, &device)?;
    eprintln!("device: {device}; strategy: {} ({})", plan.strategy, plan.reason);
    let mut session = Session::from_plan(&device, plan, &weights)?;
    let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
    let results = session.forward(&Input { lengths: lengths.as_deref(), initial, ..Input::new(x.view()) })?;
    write(args, output, &results)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Whether something is asked for that only a layer has.
    fn asks_for_a_layer(&self) -> bool {
        let states = [&self.h0, &self.c0, &self.hn, &self.cn].iter().any(|state| state.is_some());
        states || self.lengths.is_some() || self.batch_first || self.layer.names_a_layer()
    }
}

/// A state that the file has for one sequence, for all of a batch.
fn spread(state: Source<Tensor<f32>>, batch: usize) -> Source<Tensor<f32>> {
    match state {
        Source::Constant(Tensor { data, shape }) if shape.len() == 3 && shape[1] == 1 => {
            let rows = data.chunks_exact(shape[2].max(1)).flat_map(|row| row.repeat(batch)).collect();
            Source::Constant(Tensor { data: rows, shape: vec![shape[0], batch, shape[2]] })
        }
        other => other,
    }
}

/// T and B of an x that fits the configuration. Checked before anything of that size is made.
fn input_shape(config: &RnnConfig, x: &[usize]) -> Result<Shape> {
    let i = config.input_size;
    let (names, expected, shape) = match (x, config.layout) {
        (&[time, _], _) => ("[T, I]", vec![time, i], Shape { time, batch: 1 }),
        (&[time, batch, _], Layout::TimeMajor) => ("[T, B, I]", vec![time, batch, i], Shape { time, batch }),
        (&[batch, time, _], Layout::BatchFirst) => ("[B, T, I]", vec![batch, time, i], Shape { time, batch }),
        (_, Layout::TimeMajor) => return Err(mismatch("x", format!("[T, B, {i}] or [T, {i}]"), format!("{x:?}"))),
        (_, Layout::BatchFirst) => return Err(mismatch("x", format!("[B, T, {i}] or [T, {i}]"), format!("{x:?}"))),
    };
    if x != expected {
        return Err(mismatch("x", format!("{names} = {expected:?}"), format!("{x:?}")));
    }
    shape.validate()?;
    Ok(shape)
}

fn write(args: &Args, y: &Path, results: &Output<f32>) -> Result<()> {
    npy::write(y, results.y.view())?;
    if let Some(path) = &args.hn {
        npy::write(path, results.hn.view())?;
    }
    if let (Some(path), Some(cn)) = (&args.cn, &results.cn) {
        npy::write(path, cn.view())?;
    }
    Ok(())
}

fn mismatch(what: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::Mismatch { what: what.into(), expected: expected.to_string(), got: got.to_string() }
}
