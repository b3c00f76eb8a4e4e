//! typeseg's content-type tagger: six bidirectional Mamba layers that label every byte of a text.
//!
//! ```text
//! bytes ─embedding─> h
//! 6 times   n = LayerNorm(h)      u, gate = n·Dense_0      u = silu(conv(u)), one tap before and two after
//!           dt, B, C = u·Dense_1      Δ = softplus(dt·Dense_2) + 1e-4
//!           y = scan from the first byte + scan from the last      h = h + (y · silu(gate))·Dense_3
//! logits = LayerNorm(h)·Dense_0 ─argmax─> label
//! ```
//!
//! The rows of the embedding are looked up here; everything else is one `wgpu_rnn` network.

use std::path::Path;
use std::sync::Arc;
use wgpu_rnn::expr::{Expr, silu, softplus};
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::network::{
    Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, Norm, Operand, Part, Stored,
};
use wgpu_rnn::{Device, Error, Result, Shape, View, rules};

/// Layers.
pub const LAYERS: usize = 6;
/// Columns of everything between the embedding and the head.
pub const WIDTH: usize = 256;
/// Values of a channel's state.
pub const STATES: usize = 16;
/// Columns that Dense_2 widens.
pub const RANK: usize = 16;
/// ε of the norms.
pub const EPSILON: f64 = 1e-6;
/// What Δ is above.
pub const LEAST_STEP: f64 = 1e-4;

const EMBEDDING: &str = "Embed_0/embedding";

/// The trained network.
pub struct Model {
    pub network: Arc<Network>,
    /// All of its parameters, in its order.
    pub params: Vec<f32>,
    /// `[130, WIDTH]`
    pub embedding: Vec<f32>,
    /// What a byte may be.
    pub labels: Vec<String>,
}

/// What the network says of one text.
pub struct Tagged {
    /// `[bytes, labels]`
    pub logits: Vec<f32>,
    /// The likeliest label of every byte.
    pub labels: Vec<usize>,
    /// Of the first and of the last layer: the scan from the first byte, and the one from the last, `[bytes, WIDTH]` each.
    pub scans: Vec<Vec<f32>>,
}

/// Neighbouring bytes of one label.
pub struct Segment {
    pub first: usize,
    pub end: usize,
    pub label: usize,
    /// Mean probability of the label.
    pub confidence: f64,
}

impl Model {
    /// Reads weights and labels.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path.as_ref())?;
        let labels = file.metadata().remove("labels").unwrap_or_default();
        let labels: Vec<String> = serde_json::from_str(&labels)
            .map_err(|e| Error::File { path: path.as_ref().into(), reason: format!("metadata labels: {e}") })?;
        let network = Arc::new(network(labels.len())?);
        let params = network.load(&file, "", |other| other == EMBEDDING)?;
        let embedding = match file.real(EMBEDDING)? {
            Some((shape, values)) if shape == [130, WIDTH] => values,
            other => {
                let got = other.map_or("none".into(), |(shape, _)| format!("{shape:?}"));
                return Err(Error::Mismatch { what: EMBEDDING.into(), expected: format!("[130, {WIDTH}]"), got });
            }
        };
        Ok(Self { network, params, embedding, labels })
    }

    /// The row of the embedding for every byte: ASCII has its own, all that is not or that cannot be seen has one together.
    pub fn ids(&self, text: &str) -> Vec<usize> {
        let seen = |b: u8| (0x20..0x7f).contains(&b) || [b'\t', b'\n', b'\r'].contains(&b);
        text.bytes().map(|b| if seen(b) { usize::from(b) } else { 128 }).collect()
    }

    /// A session that tags these texts as one batch.
    pub fn session(&self, device: &Device, texts: &[&str]) -> Result<NetworkSession> {
        let time = texts.iter().map(|t| t.len()).max().unwrap_or(0);
        let shape = Shape { time, batch: texts.len() };
        let plan = NetworkPlan::new(&self.network, shape, &device.caps(), &NetworkOptions::default())?;
        NetworkSession::new(device, plan, &self.params)
    }

    /// Tags them: one run, ragged and unsorted as they come; no text may be empty.
    pub fn tag(&self, session: &mut NetworkSession, texts: &[&str]) -> Result<Vec<Tagged>> {
        let Shape { time, batch } = session.plan().shape;
        let mut x = vec![0.0; time * batch * WIDTH];
        for (b, text) in texts.iter().enumerate() {
            for (t, id) in self.ids(text).into_iter().enumerate() {
                x[(t * batch + b) * WIDTH..][..WIDTH].copy_from_slice(&self.embedding[id * WIDTH..][..WIDTH]);
            }
        }
        let lengths: Vec<usize> = texts.iter().map(|t| t.len()).collect();
        let shape = [time, batch, WIDTH];
        let values = [View::new(&x, &shape)];
        let output = session.forward(&NetworkInput { lengths: Some(&lengths), ..NetworkInput::new(&values) })?;
        let of = |b: usize| {
            let mut all = output.values.iter().map(|v| {
                let width = v.shape[2];
                (0..lengths[b]).flat_map(|t| v.data[(t * batch + b) * width..][..width].iter().copied()).collect()
            });
            let logits: Vec<f32> = all.next().unwrap_or_default();
            let labels = logits.chunks_exact(self.labels.len()).map(best).collect();
            Tagged { logits, labels, scans: all.collect() }
        };
        Ok((0..batch).map(of).collect())
    }
}

impl Tagged {
    /// Neighbours of one label together.
    pub fn segments(&self) -> Vec<Segment> {
        let count = self.logits.len() / self.labels.len().max(1);
        let probability = |at: usize| {
            let row = &self.logits[at * count..][..count];
            let of = |v: f32| f64::from(v - row[self.labels[at]]).exp();
            1.0 / row.iter().map(|&v| of(v)).sum::<f64>()
        };
        let mut segments: Vec<Segment> = Vec::new();
        for (at, &label) in self.labels.iter().enumerate() {
            match segments.last_mut() {
                Some(last) if last.label == label => {
                    last.end += 1;
                    last.confidence += probability(at);
                }
                _ => segments.push(Segment { first: at, end: at + 1, label, confidence: probability(at) }),
            }
        }
        segments.iter_mut().for_each(|s| s.confidence /= (s.end - s.first) as f64);
        segments
    }
}

/// Where the largest value is.
pub fn best(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (n, v)| if *v > row[best] { n } else { best })
}

/// Embedded bytes in; `logits` out, and the scans of the first and the last layer.
fn network(labels: usize) -> Result<Network> {
    let mut b = Builder::new();
    let mut h = b.input("embedded", WIDTH)?;
    let mut scans = Vec::new();
    for layer in 0..LAYERS {
        let (y, both) = block(&mut b, &format!("CheckpointMambaBlock1D_{layer}"), h)?;
        h = y;
        if layer == 0 || layer == LAYERS - 1 {
            scans.push((layer, both));
        }
    }
    let n = layer_norm(&mut b, "LayerNorm_0", h)?;
    let logits = dense(&mut b, "Dense_0", n, labels)?;
    b.output("logits", logits)?;
    for (layer, [forward, backward]) in scans {
        b.output(&format!("layer{layer}.fw.y"), forward)?;
        b.output(&format!("layer{layer}.bw.y"), backward)?;
    }
    b.finish()
}

/// One residual layer, and its two scans.
fn block(b: &mut Builder, name: &str, h: Part) -> Result<(Part, [Part; 2])> {
    let n = layer_norm(b, &format!("{name}/LayerNorm_0"), h)?;
    let both = dense(b, &format!("{name}/Dense_0"), n, 2 * WIDTH)?;
    let (u, gate) = (both.columns(0, WIDTH)?, both.columns(WIDTH, WIDTH)?);
    let kernel = format!("{name}/Conv_0/kernel");
    // [taps, 1, channels] in the file.
    let stored = Stored { tensor: kernel.clone(), slice: None, transposed: true };
    let kernel = b.stored_param(&kernel, [WIDTH, 4], stored)?;
    let bias = b.param(&format!("{name}/Conv_0/bias"), &[WIDTH])?;
    let u = b.conv(&format!("{name}/Conv_0"), u, (kernel, Some(bias)), (1, 2))?;
    let u = b.map(&format!("{name}/u"), silu(Expr::input(0)), &[u.into()])?;

    let selected = dense(b, &format!("{name}/Dense_1"), u, RANK + 2 * STATES)?;
    let (own, other) = (selected.columns(RANK, STATES)?, selected.columns(RANK + STATES, STATES)?);
    let dt = dense(b, &format!("{name}/Dense_2"), selected.columns(0, RANK)?, WIDTH)?;
    let dt = b.map(&format!("{name}/dt"), softplus(Expr::input(0)) + LEAST_STEP.into(), &[dt.into()])?;
    let (a_log, d) = (b.param(&format!("{name}/A_log"), &[WIDTH, STATES])?, b.param(&format!("{name}/D"), &[WIDTH])?);
    let operands: [Operand; 6] = [u.into(), dt.into(), own.into(), other.into(), b.whole(a_log), b.whole(d)];
    let mut scan = |direction: &str, reverse: bool| {
        b.scan(&format!("{name}/scan.{direction}"), &rules::SELECTIVE_SCAN, [WIDTH, STATES, 1], &operands, reverse)
    };
    let (forward, backward) = (scan("fw", false)?, scan("bw", true)?);

    let gated = (Expr::input(0) + Expr::input(1)) * silu(Expr::input(2));
    let gated = b.map(&format!("{name}/gated"), gated, &[forward.into(), backward.into(), gate.into()])?;
    let y = dense(b, &format!("{name}/Dense_3"), gated, WIDTH)?;
    let sum = b.map(&format!("{name}/sum"), Expr::input(0) + Expr::input(1), &[h.into(), y.into()])?;
    Ok((sum, [forward, backward]))
}

/// `name/scale` and `name/bias`
fn layer_norm(b: &mut Builder, name: &str, x: Part) -> Result<Part> {
    let (scale, bias) = (b.param(&format!("{name}/scale"), &[WIDTH])?, b.param(&format!("{name}/bias"), &[WIDTH])?);
    b.norm(name, x, (Norm::Layer, 1, EPSILON), Some(scale), Some(bias))
}

/// `name/kernel` `[in, out]` and `name/bias`
fn dense(b: &mut Builder, name: &str, x: Part, out: usize) -> Result<Part> {
    let kernel = format!("{name}/kernel");
    let stored = Stored { tensor: kernel.clone(), slice: None, transposed: true };
    let (kernel, bias) = (b.stored_param(&kernel, [out, x.width], stored)?, b.param(&format!("{name}/bias"), &[out])?);
    b.linear(name, x, kernel, Some(bias))
}
