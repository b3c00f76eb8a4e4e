//! The server as clients see it: every probability against the library over the whole sound alone, and what it does about those who
//! misbehave. In one process, so that all share the model; nothing here depends on how long anything takes.

mod harness;
mod limits;
mod misbehaving;
mod process;
mod sessions;
mod speech;
