//! The network of `examples/tag_types.rs` against what its authors' own code computed for three texts (examples/models/typeseg_mamba):
//! every label exactly, logits and the scans of the first and the last layer within a calibrated tolerance.

use std::path::PathBuf;
use std::sync::OnceLock;
use wgpu_rnn::Device;
use wgpu_rnn_examples::tag_types::recorded;
use wgpu_rnn_examples::tag_types::recorded::{Case, SCANS};
use wgpu_rnn_examples::tag_types::typeseg;
use wgpu_rnn_examples::tag_types::typeseg::{EPSILON, LAYERS, LEAST_STEP, Model, RANK, STATES, Tagged, WIDTH};
use wgpu_rnn_verify::naive::Scalar;
use wgpu_rnn_verify::tolerance::{self, Recorded};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/models/typeseg_mamba")
}

fn model() -> Model {
    Model::open(folder().join("weights.safetensors")).unwrap()
}

/// The network one number at a time in precision `T`, from the recorded description of its mathematics.
struct Naive<'a> {
    model: &'a Model,
}

type Rows<T> = Vec<Vec<T>>;

impl Naive<'_> {
    /// A parameter as the network holds it: matrices `[out, in]`.
    fn get<T: Scalar>(&self, name: &str) -> Vec<T> {
        let network = &self.model.network;
        let param = network.param(name).unwrap_or_else(|| panic!("no {name}"));
        let values = &self.model.params[network.param_offset(param)..][..network.params[param].len()];
        values.iter().map(|&v| T::from_f64(v.into())).collect()
    }

    fn dense<T: Scalar>(&self, name: &str, x: &[Vec<T>]) -> Rows<T> {
        let (kernel, bias) = (self.get::<T>(&format!("{name}/kernel")), self.get::<T>(&format!("{name}/bias")));
        let one = |x: &Vec<T>| {
            let sums =
                kernel.chunks_exact(x.len()).map(|row| row.iter().zip(x).fold(T::default(), |s, (&w, &x)| s + w * x));
            sums.zip(&bias).map(|(s, &b)| s + b).collect()
        };
        x.iter().map(one).collect()
    }

    fn layer_norm<T: Scalar>(&self, name: &str, x: &[Vec<T>]) -> Rows<T> {
        let (scale, bias) = (self.get::<T>(&format!("{name}/scale")), self.get::<T>(&format!("{name}/bias")));
        let one = |x: &Vec<T>| {
            let count = T::from_f64(x.len() as f64);
            let mean = x.iter().fold(T::default(), |s, &v| s + v) / count;
            let variance = x.iter().fold(T::default(), |s, &v| s + (v - mean) * (v - mean)) / count;
            let deviation = (variance + T::from_f64(EPSILON)).sqrt();
            x.iter().zip(scale.iter().zip(&bias)).map(|(&v, (&s, &b))| (v - mean) / deviation * s + b).collect()
        };
        x.iter().map(one).collect()
    }

    /// silu of a depthwise convolution, one tap before the byte and two after.
    fn conv<T: Scalar>(&self, name: &str, x: &[Vec<T>]) -> Rows<T> {
        let (kernel, bias) = (self.get::<T>(&format!("{name}/kernel")), self.get::<T>(&format!("{name}/bias")));
        let at = |t: usize, c: usize| {
            let taps = (0..4).filter(|k| (1..=x.len()).contains(&(t + k)));
            silu(taps.fold(bias[c], |s, k| s + kernel[c * 4 + k] * x[t + k - 1][c]))
        };
        (0..x.len()).map(|t| (0..WIDTH).map(|c| at(t, c)).collect()).collect()
    }

    fn scan<T: Scalar>(&self, name: &str, u: &[Vec<T>], dt: &[Vec<T>], selected: &[Vec<T>], reverse: bool) -> Rows<T> {
        let (a_log, d) = (self.get::<T>(&format!("{name}/A_log")), self.get::<T>(&format!("{name}/D")));
        let mut state = [T::default(); WIDTH * STATES];
        let mut y = vec![vec![T::default(); WIDTH]; u.len()];
        for step in 0..u.len() {
            let t = if reverse { u.len() - 1 - step } else { step };
            let (b, c) = selected[t][RANK..].split_at(STATES);
            for channel in 0..WIDTH {
                let mut sum = d[channel] * u[t][channel];
                for n in 0..STATES {
                    let at = channel * STATES + n;
                    let decay = ((T::default() - a_log[at].exp()) * dt[t][channel]).exp();
                    state[at] = decay * state[at] + dt[t][channel] * b[n] * u[t][channel];
                    sum = sum + c[n] * state[at];
                }
                y[t][channel] = sum;
            }
        }
        y
    }

    /// Logits, and the scans of the first and the last layer.
    fn run<T: Scalar>(&self, case: &Case) -> Values {
        let row =
            |&id: &usize| self.model.embedding[id * WIDTH..][..WIDTH].iter().map(|&v| T::from_f64(v.into())).collect();
        let mut h: Rows<T> = case.ids.iter().map(row).collect();
        let mut scans = Vec::new();
        for layer in 0..LAYERS {
            let name = format!("CheckpointMambaBlock1D_{layer}");
            let normed = self.layer_norm(&format!("{name}/LayerNorm_0"), &h);
            let both = self.dense(&format!("{name}/Dense_0"), &normed);
            let u = self.conv(&format!("{name}/Conv_0"), &both);
            let selected = self.dense(&format!("{name}/Dense_1"), &u);
            let low: Rows<T> = selected.iter().map(|s| s[..RANK].to_vec()).collect();
            let mut dt = self.dense(&format!("{name}/Dense_2"), &low);
            dt.iter_mut().flatten().for_each(|v| *v = softplus(*v) + T::from_f64(LEAST_STEP));
            let forward = self.scan(&name, &u, &dt, &selected, false);
            let backward = self.scan(&name, &u, &dt, &selected, true);
            let gated = |t: usize, c: usize| (forward[t][c] + backward[t][c]) * silu(both[t][WIDTH + c]);
            let gated: Rows<T> = (0..h.len()).map(|t| (0..WIDTH).map(|c| gated(t, c)).collect()).collect();
            let y = self.dense(&format!("{name}/Dense_3"), &gated);
            h.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(h, &y)| *h = *h + y);
            if layer == 0 || layer == LAYERS - 1 {
                scans.extend([forward, backward]);
            }
        }
        let logits = self.dense("Dense_0", &self.layer_norm("LayerNorm_0", &h));
        let wide = |rows: Rows<T>| rows.into_iter().flatten().map(|v| v.to_f64()).collect();
        std::iter::once(logits).chain(scans).map(wide).collect()
    }
}

type Values = Vec<Vec<f64>>;

/// What [`Naive::run`] gives for every text, in f64 and in f32.
fn naive(model: &Model, cases: &[Case]) -> &'static [(Values, Values)] {
    static RUNS: OnceLock<Vec<(Values, Values)>> = OnceLock::new();
    let naive = Naive { model };
    RUNS.get_or_init(|| cases.iter().map(|c| (naive.run::<f64>(c), naive.run::<f32>(c))).collect())
}

fn silu<T: Scalar>(x: T) -> T {
    x / (T::from_f64(1.0) + (T::default() - x).exp())
}

fn softplus<T: Scalar>(x: T) -> T {
    let one = T::from_f64(1.0);
    if x > T::default() { x + (one + (T::default() - x).exp()).ln() } else { (one + x.exp()).ln() }
}

fn tag(model: &Model, device: &Device, texts: &[&str]) -> Vec<Tagged> {
    let mut session = model.session(device, texts).unwrap();
    model.tag(&mut session, texts).unwrap()
}

fn check(device: &Device) {
    let (model, cases) = (model(), recorded::cases(folder()).unwrap());
    assert_eq!(cases.len(), 3);
    let texts: Vec<&str> = cases.iter().map(|c| c.text.as_str()).collect();
    let tagged = tag(&model, device, &texts);
    for (n, (case, tagged)) in cases.iter().zip(&tagged).enumerate() {
        assert_eq!(model.ids(&case.text), case.ids, "bytes of text {n}");
        let recorded: Vec<usize> = case.logits.chunks_exact(model.labels.len()).map(typeseg::best).collect();
        assert_eq!(tagged.labels, recorded, "labels of text {n} on {device}");
        let (exact, rounded) = &naive(&model, &cases)[n];
        let got = std::iter::once(&tagged.logits).chain(&tagged.scans);
        let truths: Vec<&Vec<f32>> = std::iter::once(&case.logits).chain(&case.scans).collect();
        assert_eq!(truths.len(), if n == 0 { 1 + SCANS.len() } else { 1 }, "what was recorded of text {n}");
        for (which, got) in got.enumerate() {
            let name = if which == 0 { "logits" } else { SCANS[which - 1] };
            let wide = |v: &[f32]| v.iter().map(|&v| v.into()).collect::<Vec<f64>>();
            let scale = tolerance::scale(&exact[which]);
            let bound = tolerance::bound_f32(scale, tolerance::error(&rounded[which], &exact[which]));
            let held = |truth: &[f64], bound: f64, what: &str| {
                let error = tolerance::error(&wide(got), truth);
                assert!(error <= bound, "{name} of text {n} on {device}: {error:.1e} from {what}, bound {bound:.1e}");
                println!(
                    "{name} of text {n} on {device}: {error:.1e} from {what}, bound {bound:.1e}, scale {scale:.1}"
                );
            };
            held(&exact[which], bound, "the f64 loop");
            if let Some(truth) = truths.get(which) {
                // The naive loop itself reproduces the recording: the yardstick measures the right network.
                let bound = bound + tolerance::recording(scale, Recorded::F32);
                let error = tolerance::error(&exact[which], &wide(truth));
                assert!(
                    error <= bound,
                    "{name} of text {n}: the f64 loop is {error:.1e} off the recording, bound {bound:.1e}"
                );
                held(&wide(truth), bound, "the recording");
            }
        }
    }
}

#[test]
fn cpu() {
    check(&Device::cpu());
}

#[test]
fn gpu() {
    check(&Device::gpu().expect("a GPU adapter (lavapipe will do)"));
}

#[test]
fn a_text_alone_is_tagged_as_in_the_batch() {
    let (model, texts) = (model(), ["x", "SELECT 1;\n", "é {\u{0}} \u{1f600}"]);
    let together = tag(&model, &Device::cpu(), &texts);
    for (text, together) in texts.iter().zip(together) {
        let alone = tag(&model, &Device::cpu(), &[text]).remove(0);
        assert_eq!(alone.logits, together.logits, "{text:?}");
        assert_eq!(alone.scans, together.scans, "{text:?}");
        let segments = together.segments();
        assert_eq!(segments.iter().map(|s| s.end - s.first).sum::<usize>(), text.len());
        assert!(segments.iter().all(|s| s.confidence > 1.0 / 35.0 && s.confidence <= 1.0));
    }
    assert_eq!(model.ids("é\t\u{0}~"), [128, 128, 9, 128, 126]);
}

#[test]
fn a_wrong_file_is_refused() {
    let other = folder().join("../g2p_en/weights.safetensors");
    for path in [folder().join("README.md"), folder().join("missing"), other] {
        let message = Model::open(&path).err().unwrap().to_string();
        assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
    }
}
