//! Memory policies: the same bits from checkpoints as from keeping everything, and long sequences within a budget.

mod harness;

use harness::*;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

/// Gradients of a case under a policy, with random upstream gradients.
fn gradients(case: &Case, device: &Device, strategy: Strategy, memory: Memory) -> (Gradients<f32>, Output<f32>) {
    let options = Options { strategy: Some(strategy), train: true, memory, ..Default::default() };
    let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
    let mut session = Session::from_plan(device, plan, &case.weights).unwrap();
    session.poison().unwrap();
    let out = case.run_in(&mut session);
    let up = [&out.y, &out.hn].map(|t| Tensor { data: values(91, t.data.len(), 1.0), shape: t.shape.clone() });
    let cn = out.cn.as_ref().map(|t| Tensor { data: values(92, t.data.len(), 1.0), shape: t.shape.clone() });
    let upstream = Upstream { y: Some(up[0].view()), hn: Some(up[1].view()), cn: cn.as_ref().map(Tensor::view) };
    (session.backward(&upstream).unwrap(), out)
}

/// Bits of every gradient.
fn all_bits(g: &Gradients<f32>) -> Vec<Vec<u32>> {
    let mut list = vec![bits(&g.x.data), bits(&g.h0.data)];
    list.extend(g.c0.iter().map(|c| bits(&c.data)));
    for layer in &g.weights.layers {
        list.extend(weights::Field::ALL.iter().map(|&f| bits(layer.get(f))));
    }
    list
}

#[test]
fn checkpoints_change_no_bits() {
    for cell in cells::ALL {
        for (device, strategy) in executors_for(cell, usize::from(cell == &cells::LSTM)) {
            let config = RnnConfig {
                cell,
                input_size: 3,
                hidden_size: 5,
                num_layers: 2,
                direction: Direction::Bidirectional,
                ..Default::default()
            };
            let case = Case::new(config, 150, 3, 40).with_lengths(&[97, 150, 20]);
            let what = format!("{} on {} with {strategy}", cell.name, device.kind());
            let (saved, out) = gradients(&case, &device, strategy, Memory::Save);
            let (again, out_again) = gradients(&case, &device, strategy, Memory::Checkpoint(50));
            assert_same(&what, &out, &out_again);
            assert_eq!(all_bits(&saved), all_bits(&again), "{what}");
        }
    }
}

/// Full backpropagation through a million steps from a loss on the last state fits 256 MiB beside x.
#[test]
fn a_million_steps_fit_a_budget() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 8, hidden_size: 64, ..Default::default() };
    let shape = Shape { time: 1_000_000, batch: 1 };
    let x_bytes = 1_000_000 * 8 * 4;
    let budget = (256 << 20) + x_bytes;
    let options = Options { train: true, keep_y: false, memory: Memory::Auto(budget), ..Default::default() };
    for device in [Device::cpu(), gpu()] {
        let caps = device.caps();
        let plan = Plan::new(&config, shape, &caps, &options).unwrap();
        assert!(plan.bytes() <= budget, "{} bytes", plan.bytes());
        assert!(matches!(plan.memory, Memory::Checkpoint(_)), "{:?}", plan.memory);
        assert!(plan.slots.iter().all(|s| s.bytes() <= caps.max_binding));
    }
    let small = Options { memory: Memory::Auto(1 << 20), ..options };
    let error = Plan::new(&config, shape, &Device::cpu().caps(), &small).unwrap_err().to_string();
    assert!(error.contains("over the memory budget of 1048576 bytes"), "{error}");
}

/// A plan without y gives the same last state and, from a loss on it, the same gradients.
#[test]
fn leaving_out_y_changes_no_bits() {
    for (device, strategy) in executors() {
        let config =
            RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 5, num_layers: 2, ..Default::default() };
        let case = Case::new(config, 130, 2, 50).with_lengths(&[130, 70]);
        let run = |keep_y: bool| {
            let memory = Memory::Checkpoint(64);
            let options = Options { strategy: Some(strategy), train: true, keep_y, memory, ..Default::default() };
            let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
            let mut session = Session::from_plan(&device, plan, &case.weights).unwrap();
            session.poison().unwrap();
            let state = case.with_input(|input| {
                session.write(input).unwrap();
                session.run_for_state().unwrap()
            });
            let up = values(7, state[0].len(), 1.0);
            let shape = [2, 2, 5];
            let upstream = Upstream { y: None, hn: Some(View::new(&up, &shape)), cn: None };
            (state.iter().map(|s| bits(s)).collect::<Vec<_>>(), all_bits(&session.backward(&upstream).unwrap()))
        };
        assert_eq!(run(true), run(false), "{} {strategy}", device.kind());
    }
}

/// Long loops run to their end: llvmpipe ends an invocation's loops after 65535 rounds in all, without a word.
#[test]
fn long_runs_reach_their_end_on_every_executor() {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 4, hidden_size: 64, ..Default::default() };
    let mut case = Case::new(config, 4000, 1, 60);
    // Keeps a state long enough that the first steps count.
    case.weights.layers[0].b_w[64..128].fill(3.0);
    let truth = named(&case.config, &case.true_gradients());
    let naive = case.with_input(|input| {
        case.with_upstream_as(|up| {
            wgpu_rnn_verify::naive_backward::backward(&case.config, &case.weights, input, up).unwrap()
        })
    });
    let got = case.train(&gpu(), Strategy::Sequence).1;
    for ((name, truth), ((_, naive), (_, got))) in
        truth.iter().zip(named(&case.config, &naive).iter().zip(&named(&case.config, &got)))
    {
        let error = |v: &[f32]| tolerance::error(&cast::<f64>(v), truth);
        let bound = tolerance::bound_f32(tolerance::scale(truth), error(naive));
        assert!(error(got) <= bound, "{name} is off by {:e}, bound {bound:e}", error(got));
    }
}
