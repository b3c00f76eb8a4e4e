//! Truncated backpropagation through time: a stream in windows, each from where the last one ended.

use super::harness::*;
use wgpu_rnn::*;

/// Two windows give the bits of the whole stream, and the second one's gradients are those of a run from that state given as a
/// constant: no gradient crosses.
#[test]
fn windows_carry_the_state_and_no_gradient() {
    for (cell, proj_size) in cells_and_projections(4) {
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            let config =
                RnnConfig { cell, input_size: 3, hidden_size: 6, num_layers: 2, proj_size, ..Default::default() };
            let whole = Case::new(config.clone(), 8, 2, 90);
            let expected = whole.train(&device, strategy).0;
            let window = |first: usize| {
                let rows = |v: &[f32], width: usize| v[first * 2 * width..(first + 4) * 2 * width].to_vec();
                let (x, dy) = (rows(&whole.x, 3), rows(&whole.dy, config.output_size()));
                Case { shape: Shape { time: 4, batch: 2 }, x, dy, ..whole.clone() }
            };
            let (first, mut second) = (window(0), window(4));
            let mut session = first.training::<f32>(&device, forced(strategy));
            let (out, _) = first.poisoned(&mut session);
            let shape = second.x_shape();
            let next = session
                .forward(&Input { initial: Initial::Carry, ..Input::new(View::new(&second.x, &shape)) })
                .unwrap();
            let (early, late) = expected.y.data.split_at(4 * 2 * config.output_size());
            assert_eq!((bits(&out.y.data), bits(&next.y.data)), (bits(early), bits(late)), "{what}: y");
            assert_eq!(bits(&next.hn.data), bits(&expected.hn.data), "{what}: hn");
            let got = second.with_upstream_as(|upstream| session.backward(upstream).unwrap());
            second.h0 = out.hn.data;
            second.c0 = out.cn.map_or(Vec::new(), |c| c.data);
            assert_same_gradients(&what, &config, &second.poisoned(&mut session).1, &got);
        }
    }
}
