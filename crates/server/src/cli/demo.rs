//! `convoke demo`: the whole server with phones, a bot's webhook and the examples, on loopback and in an empty directory.

mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Ended, asked_to_stop};
use crate::config::{Log, LogFormat};
use crate::telemetry;
use stage::Stage;

/// Shows the server at work: phones ring, people talk, the bot is told
///
/// Everything is real and on this machine only: SIP, audio, HTTPS and webhooks on free ports of loopback, in a data
/// directory that is thrown away.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  convoke demo\n  convoke demo --once      # exit code 0 only if every example succeeds"
)]
pub(super) struct Demo {
    /// Ends after the examples
    #[arg(long)]
    once: bool,
    /// Keeps everything in this directory [default: a new one, thrown away]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What the server logs meanwhile
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

impl Demo {
    pub(super) async fn run(self) -> Ended {
        telemetry::log(&Log { format: LogFormat::Text, level: self.log_level })?;
        let mut stop = std::pin::pin!(asked_to_stop());
        let mut stage = tokio::select! {
            stage = Stage::set(self.data) => stage?,
            () = &mut stop => return Ok(ExitCode::SUCCESS),
        };
        stage.introduce();
        if !self.once {
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    received = stage.hook.next() => match received {
                        Some(received) => received.lines().iter().for_each(|line| println!("{line}")),
                        None => break,
                    },
                }
            }
        }
        tokio::select! {
            () = stage.strike() => Ok(ExitCode::SUCCESS),
            () = asked_to_stop() => Ok(ExitCode::from(130)),
        }
    }
}
