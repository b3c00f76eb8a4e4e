//! Goldens of linear recurrences: Mamba's selective scan, the time mixing of RWKV-4 to 7.
//!
//! | kind | fields | tensors |
//! |---|---|---|
//! | `mamba_selective_scan` | B, D, N, T, flags `skip`, `z`, `delta_bias` | u, delta, z `[B, D, T]`; A `[D, N]`, below 0; B, C `[B, N, T]`; D, delta_bias `[D]`; y `[B, D, T]`, times silu(z) if there is a z; last_state `[B, D, N]` |
//! | `rwkv4_wkv` | B, T, C, flag `state` | k, v, y `[B, T, C]`; time_decay, time_first `[C]`; aa, bb, pp `[B, C]`: the state, which in `in.` is zeros without the flag |
//! | `rwkv5_wkv`, 6, 7 | B, T, H, N | r, k, v, y `[B, T, H, N]`; s0, s `[B, H, N, N]`: a row per value; w `[H, N]` (5) or `[B, T, H, N]`; u `[H, N]` (5, 6) or a, b as k (7) |
//!
//! Inputs are under `in.`, results under `out.`, with the loss Σ up·out, and gradients by all inputs but pp under `grad.`; upstream
//! ones are `up.y`, and of last states `up.last_state` and `up.s`.

use super::golden::{Case, Reader, Truth};
use super::linear_names::{
    Names, Sizes, State, Stored, initial, input, mamba, rwkv_matrix, rwkv4, state_shape, time_major, time_minor,
};
use super::naive::Scalar;
use super::naive_linear::{self, Gradients, Problem};
use super::tape::Number;
use super::{Named, tolerance};
use std::sync::Arc;
use wgpu_rnn::network::{
    Network, NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Parallel,
};
use wgpu_rnn::{Device, Element, Options, Result, Tensor, View, rules};

/// A recurrence, what it reads, and the gradients of what it gives. Values are f64 whatever they were stored in.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The recurrence with everything it reads, time-major.
    pub problem: Problem<f64>,
    /// z `[T, B, heads · V]`: y is multiplied by silu(z).
    pub gate: Option<Vec<f64>>,
    /// The gradients of y and of the last state, time-major.
    pub upstream: (Vec<f64>, Vec<f64>),
    /// The recurrence in a network, and what multiplies by z.
    network: Arc<Network>,
    /// The golden's tensors: of every port, of z, of y, of the states.
    names: Names,
}

/// What a run gives, before it has the golden's names.
struct Frame {
    y: Vec<f64>,
    last: Vec<f64>,
    /// By ports and state, and by z.
    gradients: Option<(Gradients<f64>, Option<Vec<f64>>)>,
}

impl Linear {
    pub(super) fn read(reader: &mut Reader<'_>, kind: &str) -> Result<(Case, Vec<Truth>)> {
        let (sizes, names) = match kind {
            "mamba_selective_scan" => mamba(reader)?,
            "rwkv4_wkv" => rwkv4(reader)?,
            "rwkv5_wkv" => rwkv_matrix(reader, &rules::RWKV5)?,
            "rwkv6_wkv" => rwkv_matrix(reader, &rules::RWKV6)?,
            _ => rwkv_matrix(reader, &rules::RWKV7)?,
        };
        let Sizes { shape, rule, scan } = sizes;
        let mut problem = Problem {
            rule,
            sizes: scan,
            shape,
            ports: Vec::new(),
            initial: Vec::new(),
            lengths: Vec::new(),
            resets: Vec::new(),
            reverse: false,
        };
        for name in &names.ports {
            problem.ports.push(input(reader, name, shape)?);
        }
        let gate = names.gate.as_ref().map(|name| input(reader, name, shape)).transpose()?;
        problem.initial = initial(reader, &names.state, &problem)?;
        let network = problem.network(gate.is_some()).map_err(|e| reader.in_file(e))?;
        let up_y = reader.tensor("up.y", &names.y.shape)?.data;
        let up_last = match names.state {
            State::Last(last) | State::Both(_, last) => {
                reader.tensor(&format!("up.{last}"), &state_shape(&problem))?.data
            }
            State::Fractions(_) => vec![0.0; problem.initial.len()],
        };
        let upstream = (time_major(&names.y, shape, up_y), up_last);
        let linear = Self { problem, gate, upstream, network, names };
        let truths = linear.truths(reader)?;
        Ok((Case::Linear(linear), truths))
    }

    fn truths(&self, reader: &mut Reader<'_>) -> Result<Vec<Truth>> {
        let Names { ports, gate, y, state } = &self.names;
        let mut truths = vec![reader.truth("out.y", &y.shape)?];
        let (batch, heads) = (self.problem.shape.batch, self.problem.sizes[0]);
        match state {
            State::Last(last) | State::Both(_, last) => {
                truths.push(reader.truth(&format!("out.{last}"), &state_shape(&self.problem))?);
            }
            State::Fractions(_) => {
                for name in ["out.aa", "out.bb", "out.pp"] {
                    truths.push(reader.truth(name, &[batch, heads])?);
                }
            }
        }
        let mut loss = reader.truth("out.loss", &[1])?;
        let up = [&time_minor(y, self.problem.shape, &self.upstream.0), &self.upstream.1];
        loss.scale = up.iter().zip(&truths).map(|(up, t)| tolerance::product(up, &t.tensor.data, f64::abs)).sum();
        truths.push(loss);
        for name in ports.iter().chain(gate).filter(|n| n.stored != Stored::Not) {
            truths.push(reader.truth(&format!("grad.{}", name.name), &name.shape)?);
        }
        match state {
            State::Both(first, _) => {
                truths.push(reader.truth(&format!("grad.{first}"), &state_shape(&self.problem))?);
            }
            State::Fractions(true) => {
                for name in ["grad.aa", "grad.bb"] {
                    truths.push(reader.truth(name, &[batch, heads])?);
                }
            }
            _ => {}
        }
        Ok(truths)
    }

    /// What the executor makes of it: by inference, and by training with every way over time.
    pub(super) fn runs<T: Scalar + Element>(&self, device: &Device, options: &Options) -> Result<Vec<Named>> {
        let base = NetworkOptions { precision: options.precision, ..Default::default() };
        let training =
            |parallel| NetworkOptions { train: true, parallel: Some(parallel), chunk: Some(4), ..base.clone() };
        let ways = [Parallel::Recurrent, Parallel::Chunked, Parallel::Products];
        let all = [base.clone()].into_iter().chain(ways.map(training));
        all.map(|options| Ok(self.named(self.session_run::<T>(device, &options)?))).collect()
    }

    fn session_run<T: Scalar + Element>(&self, device: &Device, options: &NetworkOptions) -> Result<Frame> {
        let (problem, network) = (&self.problem, &self.network);
        let typed = |values: &[f64]| values.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        let wide = |t: &Tensor<T>| t.data.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let inputs = problem.rule.inputs.len();
        let params = typed(&problem.ports[inputs..].concat());
        let plan = NetworkPlan::new(network, problem.shape, &device.caps(), options)?;
        let mut session = NetworkSession::<T>::new(device, plan, &params)?;

        let rows = problem.shape.time * problem.shape.batch;
        let tensor = |values: &Vec<f64>| Tensor {
            data: typed(values),
            shape: vec![problem.shape.time, problem.shape.batch, values.len() / rows],
        };
        let values: Vec<_> = problem.ports[..inputs].iter().chain(&self.gate).map(tensor).collect();
        let views: Vec<View<'_, T>> = values.iter().map(Tensor::view).collect();
        let state =
            |values: &[f64]| Tensor { data: typed(values), shape: vec![problem.shape.batch, problem.state_size()] };
        let first = state(&problem.initial);
        let initial = [first.view()];
        let input = NetworkInput { initial: NetworkInitial::Given(&initial), ..NetworkInput::new(&views) };
        let out = session.forward(&input)?;
        let gradients = match options.train {
            false => None,
            true => {
                let (up_y, up_last) = (tensor(&self.upstream.0), state(&self.upstream.1));
                let upstream = NetworkUpstream { values: &[up_y.view()], states: Some(&[up_last.view()]) };
                let back = session.backward(&upstream)?;
                let mut by_input: Vec<_> = back.inputs.iter().map(wide).collect();
                let by_gate = by_input.split_off(inputs).pop();
                by_input.extend(back.params.iter().map(wide));
                Some((Gradients { ports: by_input, initial: wide(&back.states[0]) }, by_gate))
            }
        };
        Ok(Frame { y: wide(&out.values[0]), last: wide(&out.states[0]), gradients })
    }

    /// What the naive loop makes of it.
    pub(super) fn naive_run<T: Scalar + Number>(&self) -> Result<Named> {
        let typed = |values: &[f64]| values.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        let wide = |values: &[T]| values.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let problem = self.problem.map(T::from_f64);
        let up = typed(&self.upstream.0);
        // y silu(z): by y it is silu(z), by z y σ(z) (1 + z (1 − σ(z))).
        let gate = self.gate.as_deref().map(typed);
        let one = <T as Number>::constant(1.0);
        let opened = |z: T| z * z.sigmoid();
        let inner_up = match &gate {
            Some(z) => up.iter().zip(z).map(|(&u, &z)| u * opened(z)).collect(),
            None => up.clone(),
        };
        let (results, gradients) = naive_linear::run(&problem, &inner_up, &typed(&self.upstream.1))?;
        let y: Vec<T> = match &gate {
            Some(z) => results.y.iter().zip(z).map(|(&y, &z)| y * opened(z)).collect(),
            None => results.y.clone(),
        };
        let by_gate = gate.map(|z| {
            let slope = |z: T| z.sigmoid() * (one + z * (one - z.sigmoid()));
            let all = up.iter().zip(&results.y).zip(&z).map(|((&u, &y), &z)| u * y * slope(z));
            wide(&all.collect::<Vec<T>>())
        });
        let ports = gradients.ports.iter().map(|p| wide(p)).collect();
        let gradients = Some((Gradients { ports, initial: wide(&gradients.initial) }, by_gate));
        Ok(self.named(Frame { y: wide(&y), last: wide(&results.last), gradients }))
    }

    /// A run's results under the golden's names, and as it stores them.
    fn named(&self, frame: Frame) -> Named {
        let (Names { ports, gate, y, state }, shape) = (&self.names, self.problem.shape);
        let up = [(&frame.y, &self.upstream.0), (&frame.last, &self.upstream.1)];
        let loss = up.iter().map(|(out, up)| tolerance::product(up, out, |v| v)).sum();
        let tensor = |name: String, data, shape: &[usize]| (name, Tensor { data, shape: shape.to_vec() });
        let mut list = vec![
            tensor("out.y".into(), time_minor(y, shape, &frame.y), &y.shape),
            tensor("out.loss".into(), vec![loss], &[1]),
        ];
        let (by_port, by_gate, by_state) = match frame.gradients {
            Some((by, gate)) => (by.ports, gate, Some(by.initial)),
            None => (Vec::new(), None, None),
        };
        let values = self.problem.ports.iter().chain(&self.gate);
        for ((name, gradient), values) in ports.iter().chain(gate).zip(by_port.into_iter().chain(by_gate)).zip(values) {
            let mut gradient = time_minor(name, shape, &gradient);
            if name.stored == Stored::OnceExp {
                // By A = −e^x: that by x over A.
                gradient.iter_mut().zip(values).for_each(|(g, x)| *g /= -x.exp());
            }
            list.push(tensor(format!("grad.{}", name.name), gradient, &name.shape));
        }
        let whole = state_shape(&self.problem);
        match state {
            State::Last(last) => list.push(tensor(format!("out.{last}"), frame.last, &whole)),
            State::Both(first, last) => {
                list.push(tensor(format!("out.{last}"), frame.last, &whole));
                list.extend(by_state.map(|s| tensor(format!("grad.{first}"), s, &whole)));
            }
            State::Fractions(_) => {
                list.extend(self.fractions("out", &frame.last));
                list.extend(by_state.iter().flat_map(|s| self.fractions("grad", s)).take(2));
            }
        }
        list
    }

    /// aa, bb and pp of states.
    fn fractions(&self, group: &str, states: &[f64]) -> Named {
        let (batch, heads) = (self.problem.shape.batch, self.problem.sizes[0]);
        let part = |name: &str, at: &dyn Fn(usize) -> usize| {
            let data = states.chunks_exact(3 * heads).flat_map(|s| (0..heads).map(|c| s[at(c)]).collect::<Vec<_>>());
            (format!("{group}.{name}"), Tensor { data: data.collect(), shape: vec![batch, heads] })
        };
        vec![part("aa", &|c| 2 * c), part("bb", &|c| 2 * c + 1), part("pp", &|c| 2 * heads + c)]
    }
}
