//! `convoke deadletter`: notifications that were given up.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::AppId;
use store::{DeadLetter, Fate, NoticeId, Store};

use super::{Ended, Sources, at};
use crate::auth::wall_clock;

/// Lists and shows notifications that were given up, and sends them again
///
/// They are kept for seven days, or as `retention.dead_letters` says.
#[derive(Debug, Subcommand)]
pub(super) enum DeadletterCommand {
    List(List),
    Show(Show),
    Replay(Replay),
}

/// Lists notifications that were given up, newest first, and what became of them since
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke deadletter list --app 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01")]
pub(super) struct List {
    /// Of this application only
    #[arg(long, value_name = "GUID")]
    app: Option<AppId>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    sources: Sources,
}

/// Shows one of them, its body included
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke deadletter show 4711")]
pub(super) struct Show {
    id: i64,
    #[command(flatten)]
    sources: Sources,
}

/// Sends them again, with the message ids they had and in the order of each call
///
/// They go out after everything that is owed by then: by the running server within a second, or by the next one. What is
/// on its way already or was delivered is not sent once more.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke deadletter replay 4711 4712\n  \
    convoke deadletter replay --app 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01\n  \
    convoke deadletter replay --all")]
pub(super) struct Replay {
    #[arg(required_unless_present_any = ["all", "app"], conflicts_with_all = ["all", "app"], value_name = "ID")]
    ids: Vec<i64>,
    /// All of this application
    #[arg(long, value_name = "GUID", conflicts_with = "all")]
    app: Option<AppId>,
    /// All there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    sources: Sources,
}

/// Put back in one transaction: short enough for the turns of a running server, which wait for it.
const BATCH: usize = 200;

impl DeadletterCommand {
    pub(super) async fn run(self) -> Ended {
        match self {
            Self::List(list) => {
                let letters = list.sources.store()?.dead_letters(list.app, list.limit).await?;
                if letters.is_empty() {
                    println!("Nothing was given up.");
                }
                for letter in letters {
                    println!(
                        "{:>8}  {}  {}  {}  {} tries: {}  {}",
                        letter.id,
                        at(letter.died),
                        letter.notice.app,
                        letter.notice.callback,
                        letter.attempts,
                        letter.reason,
                        fate(&letter)
                    );
                }
            }
            Self::Show(show) => match show.sources.store()?.dead_letter(NoticeId(show.id)).await? {
                Some(letter) => print(&letter),
                None => anyhow::bail!("there is no dead letter {}", show.id),
            },
            Self::Replay(replay) => {
                let store = replay.sources.store()?;
                let put_back = if replay.all || replay.app.is_some() {
                    all(&*store, replay.app).await?
                } else {
                    named(&*store, replay.ids.into_iter().map(NoticeId).collect()).await?
                };
                println!("{put_back} notifications are sent again.");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Each is looked at once, so that a webhook that still fails does not keep this going.
async fn all(store: &dyn Store, app: Option<AppId>) -> anyhow::Result<usize> {
    let (mut put_back, mut after) = (0, NoticeId::NONE);
    loop {
        let batch = store.given_up(app, after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(put_back) };
        after = *last;
        put_back += store.revive(wall_clock(), batch).await?;
    }
}

/// All of them, or none if one does not exist.
async fn named(store: &dyn Store, ids: Vec<NoticeId>) -> anyhow::Result<usize> {
    for id in &ids {
        match store.dead_letter(*id).await? {
            None => anyhow::bail!("there is no dead letter {id}; nothing is sent again"),
            Some(letter) if letter.fate == Fate::GivenUp => {}
            Some(letter) => println!("{id} is left alone: {}", fate(&letter)),
        }
    }
    Ok(store.revive(wall_clock(), ids).await?)
}

/// What became of a letter, in words.
fn fate(letter: &DeadLetter) -> String {
    match (letter.fate, letter.replays) {
        (Fate::GivenUp, 0) => "given up".to_owned(),
        (Fate::GivenUp, times) => format!("given up again, after {times} replays"),
        (Fate::PutBack(since), _) => format!("on its way again since {}", at(since)),
        (Fate::Delivered(then), _) => format!("delivered {}", at(then)),
    }
}

fn print(letter: &DeadLetter) {
    println!("id        {}", letter.id);
    println!("created   {}", at(letter.created));
    println!("given up  {}, after {} tries", at(letter.died), letter.attempts);
    println!("reason    {}", letter.reason);
    println!("since     {}", fate(letter));
    println!("app       {}", letter.notice.app);
    println!("call      {}", letter.notice.call);
    println!("callback  {}", letter.notice.callback);
    println!("message   {}", letter.message_id);
    println!();
    println!("{}", letter.notice.body);
}
