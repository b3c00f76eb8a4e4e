//! The bits of what a network gives: outputs, states and gradients of a run that goes on from where another has ended.

use super::bits::{caps, name, put};
use super::harness::values;
use super::networks::{Net, like};
use super::record::Line;
use wgpu_rnn::network::{NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream};
use wgpu_rnn::{Device, Element, Precision, Shape, Tensor, View};

/// Runs a network twice, the second time over memory filled with NaN.
///
/// # Panics
/// If the bits differ.
pub fn twice<T: Element>(net: &Net, device: &Device) -> Line {
    let [line, again] = [false, true].map(|poison| run::<T>(net, device, poison));
    assert_eq!(line, again, "two runs on {device}");
    line
}

fn run<T: Element>(net: &Net, device: &Device, poison: bool) -> Line {
    let mut line = Line::new(name::<T>(&net.name, device));
    let mut session = session::<T>(net, device);
    if poison {
        session.poison().unwrap();
    }
    forward(net, &mut session, 31, NetworkInitial::Empty);
    forward(net, &mut session, 47, NetworkInitial::Carry);
    let out = session.output().unwrap();
    put_all(&mut line, "y", &out.values);
    put_all(&mut line, "states", &out.states);
    if net.options.train {
        let up = |seed: u64, like: &[Tensor<T>]| -> Vec<Tensor<T>> {
            let of = |(n, t): (usize, &Tensor<T>)| tensor(&values(seed + n as u64, t.data.len(), 1.0), t.shape.clone());
            like.iter().enumerate().map(of).collect()
        };
        let (dy, dstates) = (up(61, &out.values), up(71, &out.states));
        let [dy, dstates] = [&dy, &dstates].map(|list| list.iter().map(Tensor::view).collect::<Vec<_>>());
        let back = session.backward(&NetworkUpstream { values: &dy, states: Some(&dstates) }).unwrap();
        put_all(&mut line, "dx", &back.inputs);
        put_all(&mut line, "dparams", &back.params);
        put_all(&mut line, "dstates", &back.states);
    }
    line
}

fn session<T: Element>(net: &Net, device: &Device) -> NetworkSession<T> {
    let precision = if size_of::<T>() == 8 { Precision::F64 } else { Precision::F32 };
    let options = NetworkOptions { precision, ..net.options.clone() };
    let plan = NetworkPlan::new(&net.network, net.shape, &caps(device), &options).unwrap();
    let params = net.network.params.iter().enumerate();
    let params = params.flat_map(|(n, p)| like(&p.name, values(81 + n as u64, p.len(), 0.6)));
    let params: Vec<T> = params.map(|v| T::from_f64(v.into())).collect();
    NetworkSession::new(device, plan, &params).unwrap()
}

fn forward<T: Element>(net: &Net, session: &mut NetworkSession<T>, seed: u64, initial: NetworkInitial<'_, T>) {
    let Shape { time, batch } = net.shape;
    let inputs = net.network.inputs.iter().map(|&value| &net.network.values[value]);
    let inputs: Vec<Tensor<T>> = inputs
        .enumerate()
        .map(|(n, v)| {
            let given = like(&v.name, values(seed + n as u64, time * batch * v.width, 1.0));
            tensor(&given, vec![time, batch, v.width])
        })
        .collect();
    let views: Vec<View<'_, T>> = inputs.iter().map(Tensor::view).collect();
    let (lengths, resets) = (net.lengths(), net.resets());
    let input = NetworkInput { values: &views, lengths: lengths.as_deref(), resets: resets.as_deref(), initial };
    session.write(&input).unwrap();
    session.run().unwrap();
}

fn tensor<T: Element>(values: &[f32], shape: Vec<usize>) -> Tensor<T> {
    Tensor { data: values.iter().map(|&v| T::from_f64(v.into())).collect(), shape }
}

/// Several tensors as one part, where there are any.
fn put_all<T: Element>(line: &mut Line, name: &str, tensors: &[Tensor<T>]) {
    let values: Vec<T> = tensors.iter().flat_map(|t| t.data.iter().copied()).collect();
    if !values.is_empty() {
        put(line, name, &values);
    }
}
