//! Truncated backpropagation through time: a stream in windows, each from where the last one ended.

use super::harness::*;
use wgpu_rnn::*;

/// Two windows give the bits of the whole stream, and the second one's gradients are those of a run from that state given as a
/// constant: no gradient crosses.
#[test]
fn windows_carry_the_state_and_no_gradient() {
    for (cell, proj_size) in cells_and_projections(4) {
        for (device, strategy) in executors() {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            let config =
                RnnConfig { cell, input_size: 3, hidden_size: 6, num_layers: 2, proj_size, ..Default::default() };
            let whole = Case::new(config.clone(), 7, 2, 90);
            let expected = whole.train(&device, strategy).0;
            let mut session =
                whole.training::<f32>(&device, forced(strategy)).for_shape(Shape { time: 4, batch: 2 }).unwrap();
            session.poison().unwrap();
            let split = 4 * 2;
            let window = |range: std::ops::Range<usize>| Case {
                shape: Shape { time: range.len(), batch: 2 },
                x: whole.x[range.start * 2 * 3..range.end * 2 * 3].to_vec(),
                dy: whole.dy[range.start * 2 * config.output_size()..range.end * 2 * config.output_size()].to_vec(),
                ..whole.clone()
            };
            // The second window is shorter: the windows overlap in no step, and share one session by its lengths.
            let first = window(0..4);
            let (out, _) = first.train_in(&mut session);
            let y = config.output_size() * split;
            assert_eq!(bits(&out.y.data), bits(&expected.y.data[..y]), "{what}: first window");
            let mut second = window(3..7);
            // As if its first step were the stream's fifth: three real steps, then padding.
            second.x = whole.x[4 * 2 * 3..].iter().copied().chain([0.0; 6]).collect();
            second.lengths = Some(vec![3, 3]);
            let shape = second.x_shape();
            let carried = Input {
                initial: Initial::Carry,
                lengths: second.lengths.as_deref(),
                ..Input::new(View::new(&second.x, &shape))
            };
            let next = session.forward(&carried).unwrap();
            assert_eq!(bits(&next.y.data[..expected.y.data.len() - y]), bits(&expected.y.data[y..]), "{what}: y");
            assert_eq!(bits(&next.hn.data), bits(&expected.hn.data), "{what}: hn");
            let got = second.with_upstream_as(|upstream| session.backward(upstream).unwrap());
            second.h0 = out.hn.data;
            second.c0 = out.cn.map_or(Vec::new(), |c| c.data);
            assert_same_gradients(&what, &config, &second.poisoned(&mut session).1, &got);
        }
    }
}
