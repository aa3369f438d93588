//! The command line: what can be asked of `convoke`, and where each answer is.

mod backup;
mod cert;
mod deadletter;
mod demo;
mod directory;
mod doctor;
mod hook;
mod phone;
mod serve;
mod settings;
mod token;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use control::Timestamp;
use store::Store;
use store::sqlite::{Access, Sqlite};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{self, ConfigError, Loaded, Setting};

/// A calling server that speaks Microsoft Graph's cloud-communications API and rings real phones.
///
/// Bots create calls and invite people over HTTP; phones speak SIP; what happens is told to webhooks.
#[derive(Debug, Parser)]
#[command(name = "convoke", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Start with `convoke demo`, or with `convoke serve` and `convoke directory apply FILE`.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Phone(phone::PhoneCommand),
    Hook(hook::HookCommand),
    Token(token::Token),
    Cert(cert::Cert),
    #[command(subcommand)]
    Directory(directory::DirectoryCommand),
    #[command(subcommand)]
    Tenant(directory::tenant::TenantCommand),
    #[command(subcommand)]
    App(directory::app::AppCommand),
    #[command(subcommand)]
    User(directory::user::UserCommand),
    #[command(subcommand)]
    Number(directory::number::NumberCommand),
    #[command(subcommand)]
    Trunk(directory::trunk::TrunkCommand),
    #[command(subcommand)]
    Deadletter(deadletter::DeadletterCommand),
    Backup(backup::BackupCommand),
    Restore(backup::RestoreCommand),
    #[command(subcommand)]
    Config(settings::ConfigCommand),
    Doctor(doctor::Doctor),
}

/// Where settings come from, for every command that needs them.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Sources {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "CONVOKE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// The data directory [default: ./convoke-data]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Sets any key of the configuration, as in `--set notify.timeout=5s`
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, global = true)]
    set: Vec<(String, String)>,
}

impl Sources {
    /// The settings in force; `more` are flags of the command itself.
    fn load(&self, more: Vec<Setting>) -> Result<Loaded, ConfigError> {
        let mut flags: Vec<Setting> = self
            .set
            .iter()
            .map(|(key, value)| Setting { key: key.clone(), value: value.clone(), flag: "--set".to_owned() })
            .collect();
        if let Some(data) = &self.data {
            flags.push(flag("--data", "data", data.display().to_string()));
        }
        flags.extend(more);
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        config::load(self.config.as_deref(), environment, &flags)
    }

    /// The data directory, which must be there: a command does not make one by a slip of the pen.
    fn data(&self) -> anyhow::Result<PathBuf> {
        let data = self.load(Vec::new())?.config.data;
        if data.is_dir() {
            Ok(data)
        } else {
            anyhow::bail!(
                "there is no data directory {}: name it with --data, or let `convoke serve` or `convoke directory apply` make it",
                data.display()
            )
        }
    }

    /// The store of the data directory, whether a server runs on it or not.
    fn store(&self) -> anyhow::Result<Arc<dyn Store>> {
        open_store(&self.data()?)
    }

    /// The same, the directory made if it is not there.
    fn store_or_new(&self) -> anyhow::Result<Arc<dyn Store>> {
        let data = self.load(Vec::new())?.config.data;
        std::fs::create_dir_all(&data)
            .map_err(|error| anyhow::anyhow!("cannot use the data directory {}: {error}", data.display()))?;
        open_store(&data)
    }
}

fn open_store(data: &Path) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(Sqlite::open(data, Access::Command)?))
}

/// A moment as people read it.
fn at(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| time.0.to_string())
}

fn flag(name: &str, key: &str, value: impl Into<String>) -> Setting {
    Setting { key: key.to_owned(), value: value.into(), flag: name.to_owned() }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it as KEY=VALUE, as in notify.timeout=5s".to_owned()),
    }
}

/// Does what the command line asks. Exit codes: 0 done, 1 failed, 2 not understood.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("convoke: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(command) => command.run().await,
            Command::Demo(command) => command.run().await,
            Command::Phone(command) => command.run().await,
            Command::Hook(command) => command.run().await,
            Command::Token(command) => command.run().await,
            Command::Cert(command) => command.run(),
            Command::Directory(command) => command.run().await,
            Command::Tenant(command) => command.run().await,
            Command::App(command) => command.run().await,
            Command::User(command) => command.run().await,
            Command::Number(command) => command.run().await,
            Command::Trunk(command) => command.run().await,
            Command::Deadletter(command) => command.run().await,
            Command::Backup(command) => command.run().await,
            Command::Restore(command) => command.run().await,
            Command::Config(command) => command.run(),
            Command::Doctor(command) => command.run().await,
        }
    });
    // Threads that still wait for something must not keep a finished command.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("convoke: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How a command ends: with a code of its own, or with one line of what went wrong.
pub(crate) type Ended = anyhow::Result<ExitCode>;

/// Who asked a command to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// A person, by Ctrl-C.
    Interrupted,
    /// A supervisor, by SIGTERM.
    Terminated,
}

/// Resolves at Ctrl-C or SIGTERM.
async fn asked_to_stop() -> Stop {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => Stop::Interrupted,
                _ = terminate.recv() => Stop::Terminated,
            }
        }
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_has_long_help_with_an_example() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_name() == "help" {
                return;
            }
            if command.has_subcommands() {
                command.get_subcommands().for_each(|each| look(each, &path));
            } else {
                let after = command.get_after_long_help().or(command.get_after_help());
                let example = after.map(ToString::to_string).unwrap_or_default();
                assert!(example.contains("convoke "), "{path} has no example");
                assert!(command.get_about().is_some(), "{path} does not say what it does");
            }
        }
        let command = Cli::command();
        command.clone().debug_assert();
        look(&command, "");
    }

    #[test]
    fn the_commands_are_these() {
        let names: Vec<_> = Cli::command().get_subcommands().map(|each| each.get_name().to_owned()).collect();
        insta::assert_snapshot!(names.join(" "), @"serve demo phone hook token cert directory tenant app user number trunk deadletter backup restore config doctor");
    }

    #[test]
    fn a_setting_is_a_key_and_a_value() {
        assert_eq!(key_value("a.b = c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(key_value("a.b").is_err());
    }
}
