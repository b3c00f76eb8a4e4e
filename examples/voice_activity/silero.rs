//! Silero's voice detector: short windows of sound through convolutions into an LSTM, which says for each whether it is speech.
//!
//! ```text
//! 64 samples of context + 512 ─STFT─> |spectrum| ─4 convolutions, relu─> LSTM ─relu, dense, sigmoid─> probability
//! ```
//!
//! The LSTM runs through `wgpu_rnn`, over a whole recording at once or frame by frame with its state kept on the device; the
//! convolutions, which know no time before their frame, are the plain loops below.

use std::path::Path;
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::{Device, Element, Error, Input, Options, Plan, Result, RnnConfig, Session, Shape, View, Weights, cells};

/// Samples per second.
pub const RATE: u32 = 16_000;
/// Samples of a frame, and those before it that the network sees again.
pub const FRAME: usize = 512;
pub const CONTEXT: usize = 64;
/// Mirrored samples behind a frame, for the last window of the STFT.
const MIRRORED: usize = 64;
/// Length and distance of the windows of the STFT.
const WINDOW: usize = 256;
const WINDOW_STRIDE: usize = 128;
/// Width, padding and strides of the four convolutions.
const WIDTH: usize = 3;
const PADDING: usize = 1;
const STRIDES: [usize; 4] = [1, 2, 2, 1];

/// Outputs of a convolution that are summed side by side.
const LANES: usize = 8;

/// The trained network.
pub struct Model {
    pub encoder: Encoder<f32>,
    pub config: RnnConfig,
    pub weights: Weights,
    /// Output layer `[1, H]` and its bias.
    pub dense: (Vec<f32>, f32),
}

/// Everything before the LSTM; in f64 too, for the tests.
pub struct Encoder<T> {
    stft: Convolution<T>,
    convolutions: Vec<Convolution<T>>,
}

/// Weights `[outputs, inputs, width]` and bias `[outputs]` (zeros where there is none).
struct Convolution<T> {
    /// By [`LANES`] outputs, `[outputs / LANES, inputs, width, LANES]`: what a processor takes at once lies side by side. Outputs beyond the
    /// last have weights of 0.
    weight: Vec<[T; LANES]>,
    bias: Vec<T>,
    inputs: usize,
    width: usize,
    padding: usize,
    stride: usize,
}

impl Model {
    /// Reads the weights; sizes come from the tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let encoder = Encoder::open(&file)?;
        let config = file.config(&cells::LSTM, "lstm.")?;
        let weights = file.weights(&config, "lstm.")?;
        let weight = tensor(&file, "final_conv.weight", &[Some(1), Some(config.hidden_size), Some(1)])?.1;
        let bias = tensor(&file, "final_conv.bias", &[Some(1)])?.1[0];
        Ok(Self { encoder, config, weights, dense: (weight, bias) })
    }

    /// The probability of speech that a state of the LSTM stands for.
    pub fn probability(&self, state: &[f32]) -> f32 {
        let (weight, bias) = &self.dense;
        let sum = weight.iter().zip(state).fold(*bias, |sum, (w, h)| sum + w * h.max(0.0));
        1.0 / (1.0 + (-sum).exp())
    }

    /// A session of this network's LSTM for so many frames of one recording; with one frame a stream's.
    pub fn session(&self, device: &Device, frames: usize, options: &Options) -> Result<Session> {
        let plan = Plan::new(&self.config, Shape { time: frames, batch: 1 }, &device.caps(), options)?;
        Session::from_plan(device, plan, &self.weights)
    }
}

impl<T: Element> Encoder<T> {
    pub fn open(file: &TensorFile) -> Result<Self> {
        let stft = Convolution::read(file, "stft_conv", WINDOW, 0, WINDOW_STRIDE)?;
        let conv =
            |(n, stride): (usize, &usize)| Convolution::read(file, &format!("conv{}", n + 1), WIDTH, PADDING, *stride);
        let convolutions: Vec<_> = STRIDES.iter().enumerate().map(conv).collect::<Result<_>>()?;
        let mut inputs = stft.bias.len() / 2;
        for (n, conv) in convolutions.iter().enumerate() {
            if conv.inputs != inputs {
                let (what, got) = (format!("inputs of conv{}", n + 1), conv.inputs.to_string());
                return Err(Error::Mismatch { what, expected: inputs.to_string(), got });
            }
            inputs = conv.bias.len();
        }
        Ok(Self { stft, convolutions })
    }

    /// What the LSTM reads of one frame `[context + frame]`.
    pub fn encode(&self, frame: &[T]) -> Vec<T> {
        let mirrored = (0..MIRRORED).map(|n| frame[frame.len() - 2 - n]);
        let samples: Vec<T> = frame.iter().copied().chain(mirrored).collect();
        let spectrum = self.stft.apply(&samples);
        // The real parts of all frequencies, then the imaginary ones.
        let (re, im) = spectrum.split_at(spectrum.len() / 2);
        let magnitude = |(re, im): (&T, &T)| T::from_f64((*re * *re + *im * *im).to_f64().sqrt());
        let mut x: Vec<T> = re.iter().zip(im).map(magnitude).collect();
        for conv in &self.convolutions {
            let relu = |v: T| if v > T::default() { v } else { T::default() };
            x = conv.apply(&x).into_iter().map(relu).collect();
        }
        x
    }
}

impl<T: Element> Convolution<T> {
    fn read(file: &TensorFile, name: &str, width: usize, padding: usize, stride: usize) -> Result<Self> {
        let (shape, weight) = tensor(file, &format!("{name}.weight"), &[None, None, Some(width)])?;
        let bias = match file.real::<T>(&format!("{name}.bias"))? {
            Some(_) => tensor(file, &format!("{name}.bias"), &[Some(shape[0])])?.1,
            None => vec![T::default(); shape[0]],
        };
        Ok(Self { weight: side_by_side(&weight, shape[0]), bias, inputs: shape[1], width, padding, stride })
    }

    /// `[inputs, time]` to `[outputs, time']`; beyond the ends are zeros. Sums are taken in f64, input after input and tap after tap: in
    /// f32 they put the LSTM's states 8.6e-5 from the truth; this way it is 3.9e-6. Each sum has the same bits on every processor.
    fn apply(&self, x: &[T]) -> Vec<T> {
        let time = x.len() / self.inputs;
        let padded = time + 2 * self.padding;
        let mut wide = vec![0.0; self.inputs * padded];
        for (row, to) in x.chunks_exact(time).zip(wide.chunks_exact_mut(padded)) {
            row.iter().zip(&mut to[self.padding..]).for_each(|(x, to)| *to = x.to_f64());
        }
        let steps = (padded - self.width) / self.stride + 1;
        let mut out = vec![T::default(); self.bias.len() * steps];
        // With the widest registers that the processor has.
        pulp::Arch::new().dispatch(Sums { of: self, x: &wide, out: &mut out });
        out
    }
}

/// All sums of a convolution over padded inputs.
struct Sums<'a, T> {
    of: &'a Convolution<T>,
    x: &'a [f64],
    out: &'a mut [T],
}

// A closure would not be compiled for those registers.
impl<T: Element> pulp::NullaryFnOnce for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let steps = self.out.len() / self.of.bias.len();
        for block in 0..self.of.bias.len().div_ceil(LANES) {
            let mut step = 0;
            // Several steps share a look at the weights, and none waits for the sum of another.
            while step < steps {
                step += match steps - step {
                    4.. => self.sum::<4>(block, step),
                    2.. => self.sum::<2>(block, step),
                    _ => self.sum::<1>(block, step),
                };
            }
        }
    }
}

impl<T: Element> Sums<'_, T> {
    /// Some outputs at so many steps, from `first` on; how many.
    #[inline(always)]
    fn sum<const STEPS: usize>(&mut self, block: usize, first: usize) -> usize {
        let Self { of: Convolution { weight, bias, inputs, width, stride, .. }, x, out } = self;
        let (outputs, taps) = (block * LANES..bias.len().min((block + 1) * LANES), inputs * width);
        let mut sums = [[0.0; LANES]; STEPS];
        for sums in &mut sums {
            for (sum, bias) in sums.iter_mut().zip(&bias[outputs.clone()]) {
                *sum = bias.to_f64();
            }
        }
        let (weight, padded) = (&weight[block * taps..][..taps], x.len() / inputs);
        // Numbers, not iterators over pairs: those stay calls here, and sums then stay in memory.
        for input in 0..*inputs {
            let weights = &weight[input * width..][..*width];
            let heard = &x[input * padded + first * stride..(input + 1) * padded];
            for tap in 0..weights.len() {
                let (weights, mut wide) = (&weights[tap], [0.0; LANES]);
                for n in 0..LANES {
                    wide[n] = weights[n].to_f64();
                }
                for s in 0..STEPS {
                    let x = heard[s * stride + tap];
                    for n in 0..LANES {
                        sums[s][n] += x * wide[n];
                    }
                }
            }
        }
        let steps = out.len() / bias.len();
        for (n, output) in outputs.enumerate() {
            for (out, sums) in out[output * steps + first..].iter_mut().zip(&sums) {
                *out = T::from_f64(sums[n]);
            }
        }
        STEPS
    }
}

/// Weights `[outputs, inputs, width]` as a convolution has them.
fn side_by_side<T: Element>(weight: &[T], outputs: usize) -> Vec<[T; LANES]> {
    let taps = weight.len() / outputs;
    let lane = |output: usize, tap: usize| if output < outputs { weight[output * taps + tap] } else { T::default() };
    let blocks = (0..outputs.div_ceil(LANES)).flat_map(|block| (0..taps).map(move |tap| (block, tap)));
    blocks.map(|(block, tap)| std::array::from_fn(|n| lane(block * LANES + n, tap))).collect()
}

/// What the network says of a recording, and what it computed on the way.
#[derive(Default)]
pub struct Detected {
    /// `[frames]`, from 0 to 1
    pub probability: Vec<f32>,
    /// `[frames, H]`
    pub states: Vec<f32>,
    /// The last h and c `[H]`.
    pub last: [Vec<f32>; 2],
}

/// Cuts sound into frames, each behind the last samples of the one before; zeros are before the first.
#[derive(Clone)]
pub struct Framer {
    pub context: [f32; CONTEXT],
}

impl Framer {
    pub const START: Self = Self { context: [0.0; CONTEXT] };

    /// The next frame, of at most [`FRAME`] samples; zeros behind fewer.
    pub fn frame(&mut self, samples: &[f32]) -> [f32; CONTEXT + FRAME] {
        let mut frame = [0.0; CONTEXT + FRAME];
        frame[..CONTEXT].copy_from_slice(&self.context);
        frame[CONTEXT..][..samples.len()].copy_from_slice(samples);
        self.context.copy_from_slice(&frame[FRAME..]);
        frame
    }
}

/// A recording in frames; zeros behind the last.
pub fn frames(samples: &[f32]) -> Vec<[f32; CONTEXT + FRAME]> {
    let mut framer = Framer::START;
    samples.chunks(FRAME).map(|chunk| framer.frame(chunk)).collect()
}

/// The whole recording in one run of a session for as many frames.
pub fn detect(model: &Model, session: &mut Session, frames: &[[f32; CONTEXT + FRAME]]) -> Result<Detected> {
    let x: Vec<f32> = frames.iter().flat_map(|frame| model.encoder.encode(frame)).collect();
    detect_encoded(model, session, &x)
}

/// The same from what the LSTM reads, `[frames, I]`.
pub fn detect_encoded(model: &Model, session: &mut Session, x: &[f32]) -> Result<Detected> {
    let shape = [x.len() / model.config.input_size, model.config.input_size];
    let out = session.forward(&Input::new(View::new(x, &shape)))?;
    let probability = out.y.data.chunks_exact(model.config.hidden_size).map(|h| model.probability(h)).collect();
    Ok(Detected { probability, states: out.y.data, last: [out.hn.data, out.cn.map_or(Vec::new(), |c| c.data)] })
}

/// Frame by frame, as sound comes in from a microphone: a session for one frame carries the state.
pub fn stream(model: &Model, session: &mut Session, frames: &[[f32; CONTEXT + FRAME]]) -> Result<Detected> {
    let mut detected = Detected::default();
    session.reset();
    for frame in frames {
        let out = session.step(View::new(&model.encoder.encode(frame), &[1, model.config.input_size]))?;
        detected.probability.push(model.probability(&out.y.data));
        detected.states.extend(out.y.data);
        detected.last = [out.hn.data, out.cn.map_or(Vec::new(), |c| c.data)];
    }
    Ok(detected)
}

/// A tensor that must have this shape, `None` standing for any size.
fn tensor<T: Element>(file: &TensorFile, name: &str, shape: &[Option<usize>]) -> Result<(Vec<usize>, Vec<T>)> {
    let found = file.real(name)?;
    let got = found.as_ref().map_or("none".into(), |(s, _)| format!("{s:?}"));
    let fits = |s: &[usize]| s.len() == shape.len() && s.iter().zip(shape).all(|(s, w)| w.is_none_or(|w| w == *s));
    let what = format!("{}: {name}", file.path().display());
    found.filter(|(s, _)| fits(s)).ok_or_else(|| Error::Mismatch { what, expected: format!("{shape:?}"), got })
}

#[cfg(test)]
mod tests {
    use super::{Convolution, side_by_side};

    /// As one sum after the other, in the order that the comment promises, whatever the sizes.
    #[test]
    fn convolutions_have_the_bits_of_plain_sums() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|n| ((n * 7919 + seed * 104_729) % 1009) as f32 / 504.0 - 1.0).collect()
        };
        for (outputs, inputs, width, padding, stride, time) in
            [(1, 1, 1, 0, 1, 1), (5, 3, 3, 1, 1, 4), (13, 2, 3, 1, 2, 7), (8, 1, 16, 0, 8, 40), (17, 4, 5, 2, 3, 11)]
        {
            let (weight, bias, x) =
                (numbers(outputs * inputs * width, 1), numbers(outputs, 2), numbers(inputs * time, 3));
            let packed = side_by_side(&weight, outputs);
            let got = Convolution { weight: packed, bias: bias.clone(), inputs, width, padding, stride }.apply(&x);
            let mut expected = Vec::new();
            for (kernel, bias) in weight.chunks(inputs * width).zip(&bias) {
                for step in 0..(time + 2 * padding - width) / stride + 1 {
                    let mut sum = f64::from(*bias);
                    for (row, taps) in x.chunks(time).zip(kernel.chunks(width)) {
                        for (tap, w) in taps.iter().enumerate() {
                            let at = (step * stride + tap).checked_sub(padding);
                            let heard = at.and_then(|at| row.get(at)).copied().unwrap_or_default();
                            sum += f64::from(heard) * f64::from(*w);
                        }
                    }
                    expected.push(sum as f32);
                }
            }
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got), bits(&expected), "{outputs} {inputs} {width} {padding} {stride} {time}");
        }
    }
}
