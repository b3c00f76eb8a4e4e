//! Faces for programs that take what comes: a stack ([`Rnn`](crate::Rnn)) and a network ([`Model`](crate::Model)) over sessions that they
//! keep, of every shape that batches have.

mod model;
mod rnn;
mod shape;

pub use model::{Model, ModelOptions, ModelOutput};
pub use rnn::{Rnn, RnnOptions};
pub(crate) use shape::rounded;
