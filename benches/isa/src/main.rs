//! What a real GPU's compiler makes of the hot kernels, with no GPU: the WGSL that plans for a GPU consist of, through naga as
//! wgpu uses it, through the installed Vulkan driver. README.md explains the table that it prints.

mod cases;
mod driver;
mod mix;
mod networks;

use driver::Driver;
use std::error::Error;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, family, rest @ ..] = args.as_slice()
        && command == "--family"
    {
        let (driver, filter) = (Driver::open()?, rest.first().map(String::as_str));
        cases::report(&driver, family, filter)?;
        return networks::report(&driver, family, filter);
    }
    // A process sees one family: the driver reads its name when it is loaded.
    let families: Vec<&str> = match args.iter().take_while(|a| *a != "--").map(String::as_str).collect::<Vec<_>>() {
        list if list.is_empty() => vec!["navi21", "gfx1100"],
        list => list,
    };
    let filter = args.iter().skip_while(|a| *a != "--").nth(1);
    for family in families {
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["--family", family]).args(filter).env("RADV_FORCE_FAMILY", family);
        if std::env::var_os("VK_DRIVER_FILES").is_none() {
            child.env("VK_DRIVER_FILES", "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json");
        }
        if !child.status()?.success() {
            return Err(format!("{family} failed").into());
        }
    }
    Ok(())
}
