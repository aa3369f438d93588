//! `convoke demo`: the whole server with phones, a bot's webhook and the examples, on loopback and in an empty directory.

mod bot;
mod examples;
mod stage;
mod timeline;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Ended, asked_to_stop};
use crate::config::{Log, LogFormat};
use crate::telemetry;
use stage::Stage;
use timeline::Timeline;

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
        let timeline = Timeline::new();
        timeline.title("convoke: starting the server, five phones, a carrier and a bot's webhook");
        let stage = tokio::select! {
            stage = Stage::set(self.data, timeline.clone()) => stage?,
            _ = asked_to_stop() => return Ok(ExitCode::SUCCESS),
        };
        stage.introduce();
        let succeeded = tokio::select! {
            succeeded = play(&stage, &timeline) => succeeded,
            _ = asked_to_stop() => false,
        };
        if !self.once {
            stage.invite_the_reader();
            asked_to_stop().await;
        }
        tokio::select! {
            () = stage.strike() => Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            _ = asked_to_stop() => Ok(ExitCode::from(130)),
        }
    }
}

/// Plays the five examples; whether all did what they should.
async fn play(stage: &Stage, timeline: &Timeline) -> bool {
    let outcomes = examples::play_all(stage).await;
    timeline.title("What was checked");
    for outcome in &outcomes {
        outcome.print(timeline);
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.succeeded()).count();
    timeline.say("");
    match failed {
        0 => timeline.say("all five examples succeeded"),
        count => timeline.say(&format!("{count} of {} examples failed", outcomes.len())),
    }
    failed == 0
}
