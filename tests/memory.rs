//! Memory policies: the same bits from checkpoints as from keeping everything, and long sequences within a budget.

mod harness;

use harness::*;
use wgpu_rnn::*;

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
        for (device, strategy) in executors() {
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
