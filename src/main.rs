//! The command line: `wgpu-rnn devices | verify | plan | bench | tune | run | export`. One file per subcommand in `cli/`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
