//! What macOS's linker must be told of symbols that the interpreter has.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
