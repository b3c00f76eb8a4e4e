//! The command `wgpu-rnn`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(wgpu_rnn_cli::run(std::env::args_os()))
}
