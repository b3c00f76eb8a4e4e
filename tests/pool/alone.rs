//! A stream alone: a session of one step of one sequence, whose state is given and read at every step.

use crate::models::{Model, plan};
use wgpu_rnn::network::{NetworkInitial, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, Parallel};
use wgpu_rnn::*;

const ONE: Shape = Shape { time: 1, batch: 1 };

/// See the module.
pub enum Alone {
    Stack(Box<Session>),
    Network(Box<NetworkSession>),
}

/// All states of a stream, one behind the other, and how many values each has.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub parts: Vec<Vec<f32>>,
}

impl Alone {
    pub fn new(device: &Device, model: &Model) -> Self {
        match model {
            Model::Stack(config, weights) => {
                let head = config.head.map(|head| Head { loss: None, ..head });
                let config = RnnConfig { head, ..config.clone() };
                let plan = Plan::new(&config, ONE, &device.caps(), &plan(device)).expect("a plan");
                Self::Stack(Box::new(Session::from_plan(device, plan, weights).expect("a session")))
            }
            Model::Network(network, params) => {
                let options = NetworkOptions { parallel: Some(Parallel::Recurrent), ..Default::default() };
                let plan = NetworkPlan::new(network, ONE, &device.caps(), &options).expect("a plan");
                Self::Network(Box::new(NetworkSession::new(device, plan, params).expect("a session")))
            }
        }
    }

    /// Values of a frame, and of a token id how many there are, by column.
    pub fn frame(&self) -> Vec<Option<usize>> {
        match self {
            Self::Stack(session) => {
                let config = &session.plan().config;
                config.vocabulary.map_or_else(|| vec![None; config.input_size], |count| vec![Some(count)])
            }
            Self::Network(session) => {
                let network = &session.plan().network;
                let of = |&value: &usize| {
                    let v = &network.values[value];
                    vec![(v.name == "ids").then_some(6); v.width]
                };
                network.inputs.iter().flat_map(of).collect()
            }
        }
    }

    /// Whether frames are token ids alone.
    pub fn of_ids(&self) -> bool {
        matches!(self, Self::Stack(session) if session.plan().config.vocabulary.is_some())
    }

    pub fn empty(&mut self) -> State {
        match self {
            Self::Stack(session) => {
                let config = &session.plan().config;
                let size = |width: usize| vec![0.0; config.num_layers * width];
                let cell = config.cell.has_cell_state().then(|| size(config.cell_size()));
                State { parts: [size(config.state_size())].into_iter().chain(cell).collect() }
            }
            Self::Network(session) => {
                session.reset();
                State { parts: session.states().expect("states").into_iter().map(|t| t.data).collect() }
            }
        }
    }

    /// One step: the state after it, and all outputs side by side.
    pub fn step(&mut self, state: &State, frame: &[f32]) -> (State, Vec<f32>) {
        match self {
            Self::Stack(session) => {
                let config = session.plan().config.clone();
                let shape = |width: usize| [config.num_layers, 1, width];
                let (h, c) = (shape(config.state_size()), shape(config.cell_size()));
                let initial = Initial::Given {
                    h0: Some(View::new(&state.parts[0], &h)),
                    c0: state.parts.get(1).map(|part| View::new(part, &c)),
                };
                let ids: Vec<u32> = frame.iter().map(|&v| v as u32).collect();
                let width = [1, 1, config.input_size];
                let input = match config.vocabulary {
                    Some(_) => Input::of_ids(View::new(&ids, &[1, 1])),
                    None => Input::new(View::new(frame, &width)),
                };
                let out = session.forward(&Input { initial, ..input }).expect("a step");
                let parts = [out.hn.data].into_iter().chain(out.cn.map(|t| t.data)).collect();
                (State { parts }, out.predictions.map_or(out.y.data, |t| t.data))
            }
            Self::Network(session) => {
                let network = session.plan().network.clone();
                let shapes: Vec<[usize; 2]> = state.parts.iter().map(|part| [1, part.len()]).collect();
                let states: Vec<View<'_, f32>> =
                    state.parts.iter().zip(&shapes).map(|(part, shape)| View::new(part, shape)).collect();
                let widths: Vec<[usize; 3]> = network.inputs.iter().map(|&v| [1, 1, network.values[v].width]).collect();
                let mut rest = frame;
                let mut inputs = Vec::new();
                for width in &widths {
                    let (own, others) = rest.split_at(width[2]);
                    inputs.push(View::new(own, width));
                    rest = others;
                }
                let initial = NetworkInitial::Given(&states);
                let out = session.forward(&NetworkInput { initial, ..NetworkInput::new(&inputs) }).expect("a step");
                let parts = out.states.into_iter().map(|t| t.data).collect();
                (State { parts }, out.values.into_iter().flat_map(|t| t.data).collect())
            }
        }
    }
}
