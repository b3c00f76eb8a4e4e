//! Streams in one batch: each steps when it has something, with the bits of a session of its own, and its state is read, set and
//! forgotten alone.

mod harness;

use harness::*;
use wgpu_rnn::*;

const BATCH: usize = 3;
/// Which streams have a step at each tick.
const TICKS: [[bool; BATCH]; 6] = [
    [true, false, true],
    [true, true, true],
    [false, false, false],
    [false, true, true],
    [true, false, false],
    [true, true, true],
];

fn config(cell: &'static Cell, proj_size: usize) -> RnnConfig {
    let head = Some(Head { size: 2, loss: None });
    RnnConfig { proj_size, num_layers: 2, direction: Direction::Bidirectional, head, ..RnnConfig::new(cell, 3, 6) }
}

/// One step of a case of one sequence.
fn step_alone(session: &mut Session, x: &[f32]) -> Output<f32> {
    session.step(View::new(x, &[1, 1, 3])).unwrap()
}

fn hold(device: &Device, strategy: Strategy, cell: &'static Cell, proj_size: usize) {
    let what = format!("{} {strategy} on {}", cell.name, device.kind());
    let case = Case::new(config(cell, proj_size), 1, BATCH, 5);
    let (p, c) = (case.config.state_size(), case.config.cell_size());
    let mut batch = case.session(device, strategy, None);
    let mut alone: Vec<Session> = (0..BATCH).map(|b| case.alone(b).session(device, strategy, None)).collect();
    let before = (batch.objects_created(), device.wgpu().map(|_| allocated(device)));
    assert!(batch.state().unwrap().h.data.iter().all(|&v| v == 0.0));
    for (tick, active) in TICKS.iter().enumerate() {
        let mut x = values(tick as u64, BATCH * 3, 1.0);
        let rows: Vec<Vec<f32>> = x.chunks(3).map(<[f32]>::to_vec).collect();
        x.chunks_mut(3).zip(active).filter(|(_, active)| !**active).for_each(|(row, _)| row.fill(f32::NAN));
        let earlier = batch.state().unwrap();
        let out = batch.step_where(View::new(&x, &[1, BATCH, 3]), active).unwrap();
        let state = batch.state().unwrap();
        assert_eq!((&state.h, &state.c), (&out.hn, &out.cn), "{what}");
        let predictions = out.predictions.unwrap();
        for b in 0..BATCH {
            let own = batch.state_of(b).unwrap();
            assert_eq!(own.h.data, sequence(&state.h.data, BATCH, p, b), "{what}");
            assert_eq!(own.h.shape, [4, p]);
            let of = |v: &[f32], width| bits(&sequence(v, BATCH, width, b));
            if active[b] {
                let expected = step_alone(&mut alone[b], &rows[b]);
                assert_eq!(of(&out.y.data, 2 * p), bits(&expected.y.data), "{what}: y of {b} at {tick}");
                assert_eq!(of(&predictions.data, 2), bits(&expected.predictions.unwrap().data), "{what}");
                assert_eq!(bits(&own.h.data), bits(&expected.hn.data), "{what}: h of {b} at {tick}");
                let expected = expected.cn.map(|c| c.data);
                assert_eq!(own.c.map(|c| bits(&c.data)), expected.map(|c| bits(&c)), "{what}: c of {b} at {tick}");
            } else {
                assert!(of(&out.y.data, 2 * p).iter().chain(&of(&predictions.data, 2)).all(|&v| v == 0), "{what}");
                assert_eq!(of(&state.h.data, p), of(&earlier.h.data, p), "{what}: h of {b} at {tick}");
                let c = |s: &State<f32>| s.c.as_ref().map(|v| of(&v.data, c));
                assert_eq!(c(&state), c(&earlier), "{what}: c of {b} at {tick}");
            }
        }
        // A stream joins another's state, one is forgotten; the rest stay.
        if tick == 1 {
            let moved = alone[2].state().unwrap();
            let of_one = batch.state_of(2).unwrap();
            assert_eq!(bits(&of_one.h.data), bits(&moved.h.data));
            batch.set_state_of(0, of_one.h.view(), of_one.c.as_ref().map(Tensor::view)).unwrap();
            alone[0].set_state(moved.h.view(), moved.c.as_ref().map(Tensor::view)).unwrap();
            batch.reset_of(1).unwrap();
            alone[1].reset();
            assert!(batch.state_of(1).unwrap().h.data.iter().all(|&v| v == 0.0));
        }
        if tick == 3 {
            let h = values(9, 4 * p, 1.0);
            batch.set_state_of(2, View::new(&h, &[4, p]), None).unwrap();
            alone[2].set_state(View::new(&h, &[4, 1, p]), None).unwrap();
        }
    }
    assert_eq!(batch.objects_created(), before.0, "{what}: a step makes nothing");
    if let Some(count) = before.1 {
        // Those that uploads went through may be gone by now.
        assert!(
            allocated(device).iter().zip(count).all(|(now, before)| *now <= before),
            "{what}: a step makes nothing"
        );
    }
    // All streams at once is a step.
    let x = values(77, BATCH * 3, 1.0);
    let state = batch.state().unwrap();
    let all = batch.step_where(View::new(&x, &[1, BATCH, 3]), &[true; BATCH]).unwrap();
    batch.set_state(state.h.view(), state.c.as_ref().map(Tensor::view)).unwrap();
    assert_same(&what, &all, &batch.step(View::new(&x, &[1, BATCH, 3])).unwrap());
}

#[test]
fn streams_of_a_batch_step_as_if_alone() {
    for (cell, proj_size) in cells_and_projections(2) {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            hold(&Device::cpu(), strategy, cell, proj_size);
        }
    }
    hold(&gpu(), Strategy::Sequence, &cells::LSTM, 2);
    hold(&gpu(), Strategy::Step, &cells::GRU, 0);
}

/// Before any run all begin from zeros, and the state of one may be set.
#[test]
fn a_state_can_be_set_before_any_run() {
    let case = Case::new(config(&cells::LSTM, 0), 1, BATCH, 6);
    let one = case.alone(1);
    for device in [Device::cpu(), gpu()] {
        let mut session = case.session(&device, Strategy::Sequence, None);
        session.poison().unwrap();
        session.reset_of(0).unwrap();
        session.set_state_of(1, View::new(&one.h0, &[4, 6]), Some(View::new(&one.c0, &[4, 6]))).unwrap();
        let mut expected = case.clone();
        expected.h0.chunks_mut(6).enumerate().filter(|(n, _)| n % BATCH != 1).for_each(|(_, row)| row.fill(0.0));
        expected.c0.chunks_mut(6).enumerate().filter(|(n, _)| n % BATCH != 1).for_each(|(_, row)| row.fill(0.0));
        assert_eq!(session.state().unwrap().h.data, expected.h0);
        let out = session.step(View::new(&case.x, &[1, BATCH, 3])).unwrap();
        assert_same("set before a run", &out, &expected.run(&device, Strategy::Sequence));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let text = |e: Error| e.to_string();
    let case = Case::new(config(&cells::GRU, 0), 1, BATCH, 7);
    let mut session = case.session(&Device::cpu(), Strategy::Sequence, None);
    let x = View::new(&case.x, &[1, BATCH, 3]);
    let out = session.step(x).unwrap();
    let h = vec![0.0; 4 * 6];
    let fits = View::new(&h, &[4, 6]);
    assert_eq!(text(session.step_where(x, &[true]).unwrap_err()), "active: expected B = 3 flags, got 1 flags");
    let sequence = "sequence: expected 0..B = 0..3, got 3";
    assert_eq!(text(session.state_of(3).unwrap_err()), sequence);
    assert_eq!(text(session.reset_of(3).unwrap_err()), sequence);
    assert_eq!(text(session.set_state_of(3, fits, None).unwrap_err()), sequence);
    let wrong = View::new(&h, &[4, 1, 6]);
    assert_eq!(text(session.set_state_of(0, wrong, None).unwrap_err()), "h: expected [L·D, P] = [4, 6], got [4, 1, 6]");
    let refused = text(session.set_state_of(0, fits, Some(fits)).unwrap_err());
    assert_eq!(refused, "c: expected none (gru has no cell state), got [4, 6]");
    let lstm = Case::new(config(&cells::LSTM, 2), 1, BATCH, 7);
    let mut lstm = lstm.session(&Device::cpu(), Strategy::Sequence, None);
    let h = View::new(&h[..8], &[4, 2]);
    assert_eq!(text(lstm.set_state_of(0, h, Some(h)).unwrap_err()), "c: expected [L·D, H] = [4, 6], got [4, 2]");
    assert_eq!(session.state().unwrap().h, out.hn);
    let long = Case::new(config(&cells::GRU, 0), 2, BATCH, 7);
    let mut long = long.session(&Device::cpu(), Strategy::Sequence, None);
    let refused = text(long.step_where(x, &[true; BATCH]).unwrap_err());
    assert!(refused.starts_with("plan of step_where: expected T = 1, got T = 2"), "{refused}");
}
