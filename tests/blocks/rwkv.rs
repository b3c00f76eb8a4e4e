//! All models against naive loops of the published code, which for gradients of RWKV-6 and -7 is the only witness: outputs and every
//! gradient, in f64 and f32, steps one after the other and in chunks. The naive loops' own gradients against central differences.

use super::{all, flat, gpu, models, on_gpu, params, tensor};
use std::sync::Arc;
use wgpu_rnn::blocks::Model;
use wgpu_rnn::network::{NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Parallel};
use wgpu_rnn::{Device, Element, Precision, Shape, Tensor};
use wgpu_rnn_verify::naive_blocks::{self, Naive};
use wgpu_rnn_verify::tolerance;

const SHAPE: [usize; 2] = [9, 2];

struct Case {
    model: Model,
    params: Vec<(String, Tensor<f64>)>,
    x: Tensor<f64>,
    dy: Tensor<f64>,
}

fn cases() -> Vec<Case> {
    let case = |(n, model): (usize, Model)| {
        let network = model.network().unwrap();
        let shape = [SHAPE[0], SHAPE[1], model.hidden_size()];
        let (params, n) = (params(&network, 11 + n as u64), n as u64);
        Case { model, params, x: tensor(&shape, 21 + n), dy: tensor(&shape, 31 + n) }
    };
    models().into_iter().enumerate().map(case).collect()
}

fn run<T: Element>(case: &Case, device: &Device, parallel: Parallel, precision: Precision) -> Naive {
    let network = Arc::new(case.model.network().unwrap());
    let cast =
        |t: &Tensor<f64>| Tensor { data: t.data.iter().map(|&v| T::from_f64(v)).collect(), shape: t.shape.clone() };
    let wide = |t: Tensor<T>| Tensor { data: t.data.iter().map(|v| v.to_f64()).collect(), shape: t.shape };
    let values: Vec<T> = flat(&network, &case.params).into_iter().map(T::from_f64).collect();
    let options =
        NetworkOptions { parallel: Some(parallel), chunk: Some(4), train: true, precision, ..Default::default() };
    let shape = Shape { time: SHAPE[0], batch: SHAPE[1] };
    let plan = NetworkPlan::new(&network, shape, &device.caps(), &options).unwrap();
    let mut session = NetworkSession::<T>::new(device, plan, &values).unwrap();
    session.poison().unwrap();
    let (x, dy) = (cast(&case.x), cast(&case.dy));
    let mut output = session.forward(&NetworkInput::new(&[x.view()])).unwrap();
    let mut back = session.backward(&NetworkUpstream { values: &[dy.view()], states: None }).unwrap();
    let gradients: Vec<T> = back.params.into_iter().flat_map(|p| p.data).collect();
    let named = network.named(&gradients).unwrap().into_iter().map(|(n, t)| (n, wide(t))).collect();
    Naive { y: wide(output.values.remove(0)), dx: wide(back.inputs.remove(0)), params: named }
}

fn tensors(run: &Naive) -> Vec<(&str, &Tensor<f64>)> {
    let params = run.params.iter().map(|(n, t)| (n.as_str(), t));
    [("y", &run.y), ("dx", &run.dx)].into_iter().chain(params).collect()
}

fn check(device: &Device, precision: Precision) {
    let cpu = device.kind() == "cpu";
    for case in cases().into_iter().filter(|c| cpu || on_gpu(&c.model)) {
        let naive = |f32: bool| {
            let run = if f32 { naive_blocks::run::<f32> } else { naive_blocks::run::<f64> };
            run(&case.model, &case.params, &case.x, &case.dy).unwrap()
        };
        let (exact, rounded) = (naive(false), naive(true));
        let ways = [Parallel::Recurrent, Parallel::Chunked, Parallel::Products];
        // How a scan goes over time is its own affair, which the tests of rules see to.
        for parallel in ways.into_iter().filter(|&way| cpu || all() || way == Parallel::Products) {
            let got = match precision {
                Precision::F64 => run::<f64>(&case, device, parallel, precision),
                Precision::F32 => run::<f32>(&case, device, parallel, precision),
            };
            let names = |run: &Naive| tensors(run).iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
            assert_eq!(names(&got), names(&exact), "{:?}", case.model);
            for (((name, truth), (_, rounded)), (_, got)) in
                tensors(&exact).into_iter().zip(tensors(&rounded)).zip(tensors(&got))
            {
                let scale = tolerance::scale(&truth.data);
                assert!(scale > 0.0, "{name} of {:?} is tested by nothing", case.model);
                let bound = match precision {
                    Precision::F64 => tolerance::bound_f64(scale),
                    Precision::F32 => tolerance::bound_f32(scale, tolerance::error(&rounded.data, &truth.data)),
                };
                let error = tolerance::error(&got.data, &truth.data);
                assert_eq!(got.shape, truth.shape);
                assert!(
                    error <= bound,
                    "{name}, {parallel:?} on {device}, {:?}: {error:.1e}, bound {bound:.1e}",
                    case.model
                );
            }
        }
    }
}

#[test]
fn cpu_f64() {
    check(&Device::cpu(), Precision::F64);
}

#[test]
fn cpu_f32() {
    check(&Device::cpu(), Precision::F32);
}

#[test]
fn gpu_f32() {
    check(&gpu(), Precision::F32);
}

#[test]
fn the_naive_gradients_are_central_differences() {
    for case in cases() {
        let run = |params: &[(String, Tensor<f64>)], x: &Tensor<f64>| {
            naive_blocks::run::<f64>(&case.model, params, x, &case.dy).unwrap()
        };
        let exact = run(&case.params, &case.x);
        let loss = |r: &Naive| tolerance::product(&r.y.data, &case.dy.data, |v| v);
        let h = 1e-6;
        let compare = |name: &str, gradient: &Tensor<f64>, moved: &dyn Fn(usize, f64) -> f64| {
            // Three elements of each: the first, one in the middle, the last.
            for at in [0, gradient.data.len() / 2, gradient.data.len() - 1] {
                let difference = (moved(at, h) - moved(at, -h)) / (2.0 * h);
                let (error, scale) =
                    ((gradient.data[at] - difference).abs(), tolerance::scale(&gradient.data).max(1.0));
                assert!(
                    error < 1e-7 * scale,
                    "{name}[{at}] of {:?}: {} and {difference}",
                    case.model,
                    gradient.data[at]
                );
            }
        };
        compare("x", &exact.dx, &|at, by| {
            let mut x = case.x.clone();
            x.data[at] += by;
            loss(&run(&case.params, &x))
        });
        for (n, (name, gradient)) in exact.params.iter().enumerate() {
            compare(name, gradient, &|at, by| {
                let mut params = case.params.clone();
                params[n].1.data[at] += by;
                loss(&run(&params, &case.x))
            });
        }
    }
}
