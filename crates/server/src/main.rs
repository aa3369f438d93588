//! The command `convoke`: the command line on top of a library.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::cli::main()
}
