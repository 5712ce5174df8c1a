//! The command line, from arguments to exit code.

mod cli;

fn main() -> std::process::ExitCode {
    silence_wayland();
    cli::run()
}

/// Software Vulkan drivers look for a Wayland display and complain on stderr if XDG_RUNTIME_DIR is unset,
/// as it is in containers and on servers. Any absolute path calms them; nothing is ever written there.
fn silence_wayland() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        let nowhere = std::env::temp_dir().join(format!("diffa-{}", std::process::id()));
        // SAFETY: this is the first thing the program does; no other thread exists that could read the
        // environment at the same time.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", nowhere) };
    }
}
