#[derive(clap::Args)]
pub struct Args {}
pub fn run(_: &Args) -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    Ok(0.into())
}
