//! What a run may cost: expressions made once, threads that change no bit, few bytes and submits.

use crate::networks::{gpu, inputs, of_everything, random, wide};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wgpu_rnn::network::*;
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{Device, Element, Precision, Result, Shape, Tensor, View, rules};

static FORMS: AtomicUsize = AtomicUsize::new(0);

/// A rule with a divisor, which counts how often its expressions are made.
static COUNTED: Rule = Rule {
    name: "counted",
    inputs: rules::MLSTM.inputs,
    params: rules::MLSTM.params,
    state: HeadState::Matrix,
    form: || {
        FORMS.fetch_add(1, Ordering::Relaxed);
        (rules::MLSTM.form)()
    },
};

fn typed<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

/// There and back from an empty state, with gradients for all outputs.
fn there_and_back<T: Element>(
    session: &mut NetworkSession<T>,
    lengths: Option<&[usize]>,
) -> Result<(NetworkOutput<T>, NetworkGradients<T>)> {
    let (network, shape) = (Arc::clone(&session.plan().network), session.plan().shape);
    let of = |&v: &usize| vec![shape.time, shape.batch, network.values[v].width];
    let tensors = network.inputs.iter().zip(inputs(&network, shape, 3));
    let given: Vec<Tensor<T>> = tensors.map(|(v, data)| Tensor { data: typed(&data), shape: of(v) }).collect();
    let views: Vec<View<'_, T>> = given.iter().map(Tensor::view).collect();
    let out = session.forward(&NetworkInput { lengths, ..NetworkInput::new(&views) })?;
    let like = |(n, t): (usize, &Tensor<T>)| Tensor {
        data: typed(&random(t.data.len(), 40 + n as u64)),
        shape: t.shape.clone(),
    };
    let up: Vec<Tensor<T>> = out.values.iter().enumerate().map(like).collect();
    let up: Vec<View<'_, T>> = up.iter().map(Tensor::view).collect();
    let back = session.backward(&NetworkUpstream { values: &up, states: None })?;
    Ok((out, back))
}

#[test]
fn a_rules_expressions_are_made_with_the_network() -> Result<()> {
    let mut b = Builder::new();
    let sizes = [2, 3, 4];
    let mut operands: Vec<Operand> = Vec::new();
    for port in COUNTED.inputs {
        operands.push(b.input(port.name, port.extent.width(sizes))?.into());
    }
    let y = b.scan("scan", &COUNTED, sizes, &operands, false)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    let made = FORMS.load(Ordering::Relaxed);
    for parallel in [Parallel::Recurrent, Parallel::Chunked, Parallel::Products] {
        let options =
            NetworkOptions { train: true, parallel: Some(parallel), chunk: Some(4), ..NetworkOptions::default() };
        let device = Device::cpu();
        let plan = NetworkPlan::new(&network, Shape { time: 30, batch: 2 }, &device.caps(), &options)?;
        there_and_back::<f32>(&mut NetworkSession::new(&device, plan, &[])?, None)?;
    }
    assert_eq!(FORMS.load(Ordering::Relaxed), made, "no plan, no session and no step makes them again");
    Ok(())
}

/// All operations beyond the sizes from which threads share the work: the same bits, whatever their number.
#[test]
fn threads_do_not_matter() -> Result<()> {
    fn run<T: Element>(threads: usize) -> Result<(NetworkOutput<T>, NetworkGradients<T>)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let (network, shape) = (wide(96)?, Shape { time: 50, batch: 3 });
        let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
        let options = NetworkOptions { train: true, precision, ..Default::default() };
        pool.install(|| {
            let device = Device::cpu();
            let plan = NetworkPlan::new(&network, shape, &device.caps(), &options)?;
            let params = typed(&random(network.parameter_count(), 5));
            let mut session = NetworkSession::<T>::new(&device, plan, &params)?;
            session.poison()?;
            there_and_back(&mut session, Some(&[31, 50, 1]))
        })
    }
    let (single, double) = (run::<f32>(1)?, run::<f64>(1)?);
    assert!(single.1.params.iter().all(|t| t.data.iter().any(|v| *v != 0.0 && v.is_finite())));
    for threads in [2, 3, 5] {
        assert_eq!(run::<f32>(threads)?, single, "{threads} threads");
        assert_eq!(run::<f64>(threads)?, double, "{threads} threads");
    }
    Ok(())
}

fn trained(network: &Arc<Network>, shape: Shape, guard: usize) -> Result<NetworkSession> {
    let (device, options) = (gpu(), NetworkOptions { train: true, guard, ..Default::default() });
    let plan = NetworkPlan::new(network, shape, &device.caps(), &options)?;
    NetworkSession::new(&device, plan, &typed(&random(network.parameter_count(), 5)))
}

/// 0 is cleared on the device: what a way back uploads is what it was given.
#[test]
fn a_way_back_uploads_the_gradients_of_outputs_alone() -> Result<()> {
    let (network, shape) = (of_everything()?, Shape { time: 5, batch: 2 });
    let mut session = trained(&network, shape, 0)?;
    let (first, _) = there_and_back(&mut session, None)?;
    let up: Vec<View<'_, f32>> = first.values.iter().map(Tensor::view).collect();
    let states: Vec<View<'_, f32>> = first.states.iter().map(Tensor::view).collect();
    let shown: usize = network.outputs.iter().map(|(_, part)| network.values[part.value].width).sum();
    let (shown, held) = (4 * 10 * shown, 4 * first.states.iter().map(|t| t.data.len()).sum::<usize>());
    let x = Tensor { data: vec![0.5; 60], shape: vec![5, 2, 6] };
    for (given, expected) in [(None, shown), (Some(&states[..]), shown + held)] {
        session.forward(&NetworkInput::new(&[x.view()]))?;
        let before = session.bytes_written();
        session.backward(&NetworkUpstream { values: &up, states: given })?;
        assert_eq!(session.bytes_written() - before, expected as u64, "with states: {}", given.is_some());
    }
    Ok(())
}

#[test]
fn all_states_are_carried_in_one_submit() -> Result<()> {
    let (network, shape) = (of_everything()?, Shape { time: 5, batch: 2 });
    let mut session = trained(&network, shape, 0)?;
    let x = Tensor { data: vec![0.5; 60], shape: vec![5, 2, 6] };
    let first = session.forward(&NetworkInput::new(&[x.view()]))?;
    assert!(first.states.len() > 5);
    let before = session.submits();
    session.write(&NetworkInput { initial: NetworkInitial::Carry, ..NetworkInput::new(&[x.view()]) })?;
    assert_eq!(session.submits() - before, 1);
    session.run()?;
    let carried = session.output()?;
    let views: Vec<View<'_, f32>> = first.states.iter().map(Tensor::view).collect();
    let initial = NetworkInitial::Given(&views);
    assert_eq!(carried, session.forward(&NetworkInput { initial, ..NetworkInput::new(&[x.view()]) })?);
    Ok(())
}

/// Slots lie apart, and what is between them is no number: nothing reads it, and nothing writes it.
#[test]
fn no_kernel_leaves_its_slots() -> Result<()> {
    let network = of_everything()?;
    let shape = Shape { time: 9, batch: 3 };
    let (mut close, mut apart) = (trained(&network, shape, 0)?, trained(&network, shape, 37)?);
    close.poison()?;
    apart.poison()?;
    let lengths = Some(&[5, 9, 1][..]);
    assert_eq!(there_and_back(&mut close, lengths)?, there_and_back(&mut apart, lengths)?);
    apart.check_guards()?;
    Ok(())
}
