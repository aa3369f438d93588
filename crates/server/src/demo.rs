//! `convoke demo`: the whole server on this machine, and the five examples of the invite page played on it.
//!
//! Nothing here is simulated: the people are SIP phones of the `phone` crate that register over UDP and talk over RTP,
//! the bot is an HTTP client with a token of the token endpoint, and its webhook verifies what it is told.

mod bot;
mod examples;
mod stage;
mod timeline;
mod webhook;

use std::path::PathBuf;

use anyhow::Result;

use stage::Stage;
use timeline::Timeline;

/// How the demo is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop after the five examples.
    pub once: bool,
    /// Where everything is kept; `None`: a directory that is removed at the end.
    pub data: Option<PathBuf>,
}

/// Runs the demo; `true` if all five examples did what they should.
pub async fn run(options: Options) -> Result<bool> {
    let timeline = Timeline::new();
    timeline.title("convoke: starting the server, five phones, a carrier and a bot's webhook");
    let stage = Stage::set(&options, timeline.clone()).await?;
    stage.introduce();

    let outcomes = examples::play_all(&stage).await;
    let failed = outcomes.iter().filter(|outcome| !outcome.succeeded()).count();
    timeline.title("What was checked");
    for outcome in &outcomes {
        outcome.print(&timeline);
    }
    match failed {
        0 => timeline.say("all five examples succeeded"),
        count => timeline.say(&format!("{count} of {} examples failed", outcomes.len())),
    }
    if !options.once {
        stage.invite_the_reader();
        let _ = tokio::signal::ctrl_c().await;
        timeline.title("Stopping");
    }
    stage.strike().await;
    Ok(failed == 0)
}
