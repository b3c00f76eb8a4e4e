//! Siblings: sessions of other shapes over the same parameters, which one of them changes.

use crate::networks::{gpu, random};
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::{Device, Loss, Optimiser, Result, RnnConfig, Shape, Tensor, View, cells, rules};

const SHAPE: Shape = Shape { time: 5, batch: 3 };
const OTHER: Shape = Shape { time: 2, batch: 4 };

/// Parameters of every kind: a product's, an operand's, a scan's neighbours, and a stack's; and a loss.
fn network(width: usize) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let (x, wanted) = (b.input("x", width)?, b.input("wanted", width)?);
    let (w, bias) = (b.param("in.weight", &[width, width])?, b.param("in.bias", &[width])?);
    let h = b.linear("in", x, w, Some(bias))?;
    let scan = b.scan("mingru", &rules::MINGRU, [width, 1, 1], &[h.into(), x.into()], false)?;
    let y = b.layers("lstm", scan, &RnnConfig { num_layers: 2, ..RnnConfig::new(&cells::LSTM, width, width) })?;
    let gain = b.param("gain", &[width])?;
    let y = b.norm("norm", y, (Norm::Rms, 1, 1e-5), Some(gain), None)?;
    b.loss("loss", y, wanted, None, Loss::MeanSquared)?;
    b.output("y", y)?;
    Ok(Arc::new(b.finish()?))
}

fn typed(count: usize, seed: u64) -> Vec<f32> {
    random(count, seed).into_iter().map(|v| v as f32).collect()
}

fn plan(network: &Arc<Network>, device: &Device, shape: Shape, options: &NetworkOptions) -> Result<NetworkPlan> {
    NetworkPlan::new(network, shape, &device.caps(), options)
}

fn inputs(network: &Network, shape: Shape) -> Vec<Tensor<f32>> {
    let one = |&v: &usize| {
        let shape = vec![shape.time, shape.batch, network.values[v].width];
        Tensor { data: typed(shape.iter().product(), 30 + v as u64), shape }
    };
    network.inputs.iter().map(one).collect()
}

fn run(session: &mut NetworkSession) -> Result<NetworkOutput<f32>> {
    let values = inputs(&session.plan().network.clone(), session.plan().shape);
    let values: Vec<View<'_, f32>> = values.iter().map(Tensor::view).collect();
    session.forward(&NetworkInput::new(&values))
}

fn back(session: &mut NetworkSession) -> Result<NetworkGradients<f32>> {
    session.run_back()?;
    session.gradients()
}

fn words<T>(result: Result<T>, words: &str) {
    let text = result.map(drop).expect_err("refused").to_string();
    assert!(text.contains(words), "{text}\nlacks {words}");
}

#[test]
fn siblings_see_what_their_owner_changes() -> Result<()> {
    let network = network(6)?;
    let training = NetworkOptions { train: true, ..Default::default() };
    let inference = NetworkOptions::default();
    let updated = NetworkOptions { optimiser: Some(Optimiser::adam()), ..training.clone() };
    let [first, second] = [7, 8].map(|seed| typed(network.parameter_count(), seed));
    for device in [Device::cpu(), gpu()] {
        let fresh = |shape, options, params: &[f32]| {
            NetworkSession::new(&device, plan(&network, &device, shape, options)?, params)
        };
        let mut owner = fresh(SHAPE, &updated, &first)?;
        let mut streams = owner.sibling(plan(&network, &device, OTHER, &inference)?)?;
        let mut trains = owner.sibling(plan(&network, &device, OTHER, &training)?)?;
        assert_eq!(streams.bytes_written(), 0, "nothing is uploaded");
        for session in [&mut owner, &mut streams, &mut trains] {
            session.poison()?;
        }
        let mut hold = |owner: &NetworkSession, params: &[f32], what: &str| -> Result<()> {
            assert_eq!(owner.params()?, params, "{what} on {device}");
            assert_eq!((streams.params()?, trains.params()?), (params.to_vec(), params.to_vec()), "{what} on {device}");
            assert_eq!(run(&mut streams)?, run(&mut fresh(OTHER, &inference, params)?)?, "{what} on {device}");
            let mut exact = fresh(OTHER, &training, params)?;
            assert_eq!(run(&mut trains)?, run(&mut exact)?, "{what} on {device}");
            assert_eq!(back(&mut trains)?, back(&mut exact)?, "{what} on {device}");
            Ok(())
        };
        hold(&owner, &first, "as given")?;
        owner.set_params(&second)?;
        hold(&owner, &second, "given anew")?;
        run(&mut owner)?;
        owner.run_back()?;
        owner.update(0.1)?;
        let now = owner.params()?;
        assert_ne!(now, second);
        hold(&owner, &now, "updated")?;
        // A run before a change cannot be gone back through; one after it can.
        for update in [false, true] {
            run(&mut trains)?;
            match update {
                false => owner.set_params(&first)?,
                true => {
                    run(&mut owner)?;
                    owner.run_back()?;
                    owner.update(0.1)?;
                }
            }
            words(trains.run_back(), "none since the parameters changed");
            run(&mut trains)?;
            trains.run_back()?;
        }
        // They do without the one that they were made of.
        let mut last = trains.sibling(plan(&network, &device, SHAPE, &inference)?)?;
        let now = owner.params()?;
        drop(owner);
        assert_eq!(run(&mut last)?, run(&mut fresh(SHAPE, &inference, &now)?)?, "{device}");
    }
    Ok(())
}

#[test]
fn what_siblings_may_not_is_refused() -> Result<()> {
    let network = network(6)?;
    let params = typed(network.parameter_count(), 7);
    let device = Device::cpu();
    let owner = NetworkSession::new(&device, plan(&network, &device, SHAPE, &NetworkOptions::default())?, &params)?;
    let mut sibling = owner.sibling(plan(&network, &device, OTHER, &NetworkOptions::default())?)?;
    words(sibling.set_params(&params), "set_params: expected the session that the parameters were given to");
    words(sibling.update(0.1), "a plan without an optimiser");
    let training = NetworkOptions { train: true, ..Default::default() };
    words(
        owner.sibling(plan(&network, &device, OTHER, &training)?),
        "options of a sibling: expected an inference plan",
    );
    let updated = NetworkOptions { optimiser: Some(Optimiser::Sgd { momentum: 0.0 }), ..training };
    words(owner.sibling(plan(&network, &device, OTHER, &updated)?), "optimiser of a sibling");
    let caps = wgpu_rnn::Caps { max_binding: 1 << 20, ..device.caps() };
    let other = NetworkPlan::new(&network, OTHER, &caps, &NetworkOptions::default())?;
    words(owner.sibling(other), "plan of a sibling: expected one made for the caps");
    let wide = self::network(7)?;
    words(owner.sibling(plan(&wide, &device, OTHER, &NetworkOptions::default())?), "network of a sibling");
    let wide = NetworkOptions { precision: wgpu_rnn::Precision::F64, ..Default::default() };
    words(owner.sibling(plan(&network, &device, OTHER, &wide)?), "precision of the plan");
    Ok(())
}

/// A run beside a change on another thread has the parameters of before or those of after, and nobody waits for ever.
#[test]
fn a_run_beside_a_change_is_of_one_set_of_parameters() -> Result<()> {
    let network = network(32)?;
    let params = [7, 8].map(|seed| typed(network.parameter_count(), seed));
    for (device, shape, runs) in
        [(Device::cpu_with_threads(2)?, Shape { time: 64, batch: 8 }, 30), (gpu(), Shape { time: 3, batch: 2 }, 8)]
    {
        let mut owner =
            NetworkSession::new(&device, plan(&network, &device, SHAPE, &NetworkOptions::default())?, &params[0])?;
        let mut sibling = owner.sibling(plan(&network, &device, shape, &NetworkOptions::default())?)?;
        let mut truths = Vec::new();
        for params in params.iter().rev() {
            owner.set_params(params)?;
            truths.push(run(&mut sibling)?);
        }
        let outputs = std::thread::scope(|scope| {
            let runs = scope.spawn(|| (0..runs).map(|_| run(&mut sibling)).collect::<Result<Vec<_>>>());
            for n in 0.. {
                if runs.is_finished() {
                    break;
                }
                owner.set_params(&params[n % 2])?;
            }
            runs.join().expect("no panic")
        })?;
        assert!(outputs.iter().all(|out| truths.contains(out)), "{device}");
    }
    Ok(())
}
