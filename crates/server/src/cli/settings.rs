//! `convoke config`: what is set, and whether it is right.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Ended, Sources};
use crate::config;

/// Checks and shows the configuration
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    Check(Check),
    Show(Show),
    Example(Example),
}

/// Says whether the configuration is right
///
/// Exit code 0 if it is, 1 with one line of what is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke config check --config convoke.toml")]
pub(super) struct Check {
    #[command(flatten)]
    sources: Sources,
}

/// Prints the settings in force as TOML, and where each came from
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  CONVOKE_DEV=true convoke config show --set notify.timeout=5s")]
pub(super) struct Show {
    #[command(flatten)]
    sources: Sources,
}

/// Prints an example file with every key at its default
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke config example > convoke.toml")]
pub(super) struct Example {}

impl ConfigCommand {
    pub(super) fn run(self) -> Ended {
        match self {
            Self::Check(check) => {
                let loaded = check.sources.load(Vec::new())?;
                for warning in &loaded.warnings {
                    eprintln!("convoke: {warning}");
                }
                println!("The configuration is right: {} settings differ from the defaults.", loaded.origins.len());
            }
            Self::Show(show) => {
                let loaded = show.sources.load(Vec::new())?;
                for (key, origin) in &loaded.origins {
                    println!("# {key} is set by {origin}");
                }
                print!("{}", toml::to_string(&loaded.config)?);
            }
            Self::Example(Example {}) => print!("{}", config::example()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
