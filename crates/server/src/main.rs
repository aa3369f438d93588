//! The command `convoke`: the command line on top of a library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Rosters, requests and events are many small pieces of JSON: the system's allocator takes a seventh of a busy server's
/// time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    server::cli::main()
}
