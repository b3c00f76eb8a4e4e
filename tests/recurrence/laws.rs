//! What holds bit for bit, and what ties blocks to the full matrix that they stand for.

use super::*;
use wgpu_rnn_verify::{naive_backward, tolerance};

/// One head is the full matrix, bit for bit; so is the diagonal of a single unit.
#[test]
fn one_head_is_dense_bit_for_bit() {
    for (cell, proj_size) in cells_and_projections(3) {
        let direction = Direction::Bidirectional;
        let config = RnnConfig {
            cell,
            input_size: 5,
            hidden_size: 9,
            num_layers: 2,
            direction,
            proj_size,
            ..Default::default()
        };
        let case = ragged(config);
        let mut heads = case.clone();
        heads.config.recurrence = Recurrence::Heads(1);
        for (device, strategy) in executors_for(cell, proj_size) {
            let what = format!("{} P={proj_size} on {} with {strategy}", cell.name, device.kind());
            let (one, other) = (case.train(&device, strategy), heads.train(&device, strategy));
            assert_same(&what, &one.0, &other.0);
            assert_same_gradients(&what, &case.config, &one.1, &other.1);
        }
    }
    let config = RnnConfig { cell: &cells::GRU, input_size: 2, hidden_size: 1, ..Default::default() };
    let case = ragged(config);
    let mut diagonal = case.clone();
    diagonal.config.recurrence = Recurrence::Diagonal;
    assert_same("H = 1", &case.run(&Device::cpu(), Strategy::Step), &diagonal.run(&Device::cpu(), Strategy::Step));
}

/// Outputs and gradients are those of the full matrix with zeros between the blocks: each within its bound of the f64 truth of the
/// full matrix, bounds from the naive loop over that. Of the gradient of the full R only the blocks are asked for.
#[test]
fn blocks_are_a_full_matrix_with_zeros() {
    let mut failures = Vec::new();
    for config in stacks() {
        let case = ragged(config);
        let full = dense(&case);
        let (expanded_config, expanded) = case.weights.to_dense(&case.config).unwrap();
        assert_eq!((&expanded_config, &expanded), (&full.config, &full.weights), "{}", label(&case.config));
        let places = places(&case.config);
        let blocks = |values: Vec<Named<f64>>| -> Vec<Named<f64>> {
            let cut = |(name, v): Named<f64>| match name.starts_with("weight_hh") {
                true => (name, places.iter().map(|&at| v[at]).collect()),
                false => (name, v),
            };
            values.into_iter().map(cut).collect()
        };
        let wide = |g: &Gradients<f32>| -> Vec<Named<f64>> {
            named(&full.config, g).into_iter().map(|(name, v)| (name, cast::<f64>(&v))).collect()
        };
        let truth = blocks(named(&full.config, &full.true_gradients()));
        let naive = full.with_input(|input| {
            full.with_upstream_as(|up| naive_backward::backward::<f32>(&full.config, &full.weights, input, up))
        });
        let naive = blocks(wide(&naive.unwrap()));
        let true_y = full.train_in(&mut full.training::<f64>(&Device::cpu(), Options::default())).0.y.data;
        let plain_y = full.train(&Device::cpu(), Strategy::Step).0.y.data;
        for (device, strategy) in runs(&case.config) {
            let (out, got) = case.train(&device, strategy);
            let got = named(&case.config, &got);
            for (((name, got), (_, truth)), (_, naive)) in got.iter().zip(&truth).zip(&naive) {
                let bound = tolerance::bound_f32(tolerance::scale(truth), tolerance::error(naive, truth));
                let error = tolerance::error(&cast::<f64>(got), truth);
                if error > bound {
                    failures.push(format!(
                        "{} on {} with {strategy}: {name} off by {error:e}, bound {bound:e}",
                        label(&case.config),
                        device.kind()
                    ));
                }
            }
            let bound =
                tolerance::bound_f32(tolerance::scale(&true_y), tolerance::error(&cast::<f64>(&plain_y), &true_y));
            let error = tolerance::error(&cast::<f64>(&out.y.data), &true_y);
            if error > bound {
                failures.push(format!("{} on {} with {strategy}: y", label(&case.config), device.kind()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Streaming step by step, blocks of steps, another shape's session and the neighbours in the batch change no bits.
#[test]
fn streams_cuts_and_neighbours_do_not_matter() {
    for config in cells::ALL.into_iter().flat_map(kinds) {
        for (device, strategy) in runs(&config) {
            let what = format!("{} on {} with {strategy}", label(&config), device.kind());
            let case = Case::new(config.clone(), 5, 3, 3);
            let mut session = case.session(&device, strategy, None);
            let whole = case.run_in(&mut session);
            assert_same(&what, &whole, &case.session(&device, strategy, Some(2)).forward_of(&case));

            let one = Case { shape: Shape { time: 1, batch: 3 }, ..case.clone() };
            let mut stream = one.session(&device, strategy, None);
            let (inputs, outputs) = (3 * config.input_size, 3 * config.output_size());
            let mut last = None;
            for t in 0..5 {
                let step = Case { x: case.x[t * inputs..][..inputs].to_vec(), ..one.clone() };
                let shape = step.x_shape();
                let out = match t {
                    0 => step.run_in(&mut stream),
                    _ => stream.step(View::new(&step.x, &shape)).unwrap(),
                };
                assert_eq!(bits(&out.y.data), bits(&whole.y.data[t * outputs..][..outputs]), "{what}: step {t}");
                last = Some(out);
            }
            assert_eq!(bits(&last.unwrap().hn.data), bits(&whole.hn.data), "{what}: streamed hn");

            let alone = case.alone(2).run(&device, strategy);
            let own = sequence(&whole.y.data, 3, config.output_size(), 2);
            assert_eq!(bits(&alone.y.data), bits(&own), "{what}: alone");
        }
    }
}

trait ForwardOf {
    fn forward_of(self, case: &Case) -> Output<f32>;
}

impl ForwardOf for Session {
    fn forward_of(mut self, case: &Case) -> Output<f32> {
        self.poison().unwrap();
        case.run_in(&mut self)
    }
}

/// Gradients do not depend on blocks, checkpoints and runs before; those of a sequence's own tensors not on its neighbours.
#[test]
fn gradients_do_not_depend_on_cuts_and_neighbours() {
    for config in cells::ALL.into_iter().flat_map(kinds) {
        for (device, strategy) in runs(&config) {
            let what = format!("{} on {} with {strategy}", label(&config), device.kind());
            let case = Case::new(config.clone(), 67, 2, 5).with_lengths(&[66, 67]);
            let mut session = case.training(&device, forced(strategy));
            let whole = case.poisoned(&mut session).1;
            assert_same_gradients(&what, &config, &whole, &case.train_in(&mut session).1);
            let options = Options { max_block: Some(30), memory: Memory::Checkpoint(64), ..forced(strategy) };
            let cut = case.poisoned(&mut case.training(&device, options)).1;
            assert_same_gradients(&format!("{what}: cut"), &config, &whole, &cut);
            if strategy == Strategy::Step {
                let alone = case.alone(1).train(&device, strategy).1;
                assert_eq!(bits(&alone.x.data), bits(&sequence(&whole.x.data, 2, 5, 1)), "{what}: alone");
            }
        }
    }
}

/// After updates a session runs on what it reads back: R and its transpose are packed again, on the device, as an upload packs them.
#[test]
fn updated_weights_are_those_of_a_new_session() {
    for config in stacks() {
        for (device, strategy) in runs(&config) {
            let what = format!("{} on {} with {strategy}", label(&config), device.kind());
            let case = Case::new(config.clone(), 3, 2, 81);
            let options = Options { optimiser: Some(Optimiser::adamw(0.1)), clip_norm: Some(0.5), ..forced(strategy) };
            let mut session = case.training::<f32>(&device, options);
            for _ in 0..2 {
                case.train_in(&mut session);
                session.update(0.05).unwrap();
            }
            let weights = session.weights().unwrap();
            assert_ne!(weights.layers[0].r, case.weights.layers[0].r, "{what}");
            let fresh = Case { weights, ..case.clone() }.train(&device, strategy);
            let own = case.poisoned(&mut session);
            assert_same(&what, &fresh.0, &own.0);
            assert_same_gradients(&what, &config, &fresh.1, &own.1);
        }
    }
}

/// A unit whose h is infinite reaches its own head and no other: what pads a head's last vec4 is not the next head's h times 0.
#[test]
fn heads_do_not_touch_each_other() {
    for (heads, hidden_size) in [(Recurrence::Heads(3), 6), (Recurrence::Heads(3), 15), (Recurrence::Diagonal, 7)] {
        let config =
            RnnConfig { cell: &cells::RNN_RELU, input_size: 5, hidden_size, recurrence: heads, ..Default::default() };
        for (device, strategy) in executors() {
            let case = Case::new(config.clone(), 1, 2, 9);
            let clean = case.run(&device, strategy).y.data;
            let own = hidden_size / heads.heads(hidden_size);
            for unit in [0, own, hidden_size - 1] {
                let mut bad = case.clone();
                bad.h0[unit] = f32::NAN;
                let got = bad.run(&device, strategy).y.data;
                for (n, (got, clean)) in got.iter().zip(&clean).enumerate() {
                    let reached = n < hidden_size && n / own == unit / own;
                    let what = format!("{heads} on {} with {strategy}: {unit} reaches {n}", device.kind());
                    assert!(if reached { true } else { got.to_bits() == clean.to_bits() }, "{what}");
                }
            }
        }
    }
}
