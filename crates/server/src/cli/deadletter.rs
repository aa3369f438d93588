//! `convoke deadletter`: notifications that were given up.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::{AppId, Timestamp};
use store::{DeadLetter, NoticeId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Ended, Sources};
use crate::auth::wall_clock;

/// Lists and shows notifications that were given up, and sends them again
///
/// They are kept for seven days.
#[derive(Debug, Subcommand)]
pub(super) enum DeadletterCommand {
    List(List),
    Show(Show),
    Retry(Retry),
}

/// Lists notifications that were given up, newest first
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

/// Sends them again, after everything that is owed by then
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  convoke deadletter retry 4711 4712\n  convoke deadletter retry --all")]
pub(super) struct Retry {
    #[arg(required_unless_present = "all")]
    ids: Vec<i64>,
    /// All there are
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    sources: Sources,
}

/// A server that loses its webhook for a week has about that many.
const ALL: usize = 1_000_000;

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
                        "{:>8}  {}  {}  {}  {} tries: {}",
                        letter.id,
                        at(letter.died),
                        letter.notice.app,
                        letter.notice.callback,
                        letter.attempts,
                        letter.reason
                    );
                }
            }
            Self::Show(show) => {
                let letters = show.sources.store()?.dead_letters(None, ALL).await?;
                match letters.into_iter().find(|letter| letter.id == NoticeId(show.id)) {
                    Some(letter) => print(&letter),
                    None => anyhow::bail!("there is no dead letter {}", show.id),
                }
            }
            Self::Retry(retry) => {
                let store = retry.sources.store()?;
                let ids = if retry.all {
                    let mut all: Vec<_> = store.dead_letters(None, ALL).await?.iter().map(|letter| letter.id).collect();
                    // In the order they were written in.
                    all.reverse();
                    all
                } else {
                    retry.ids.into_iter().map(NoticeId).collect()
                };
                let revived = store.revive(wall_clock(), ids).await?;
                println!("{revived} notifications are sent again.");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(letter: &DeadLetter) {
    println!("id        {}", letter.id);
    println!("created   {}", at(letter.created));
    println!("given up  {}, after {} tries", at(letter.died), letter.attempts);
    println!("reason    {}", letter.reason);
    println!("app       {}", letter.notice.app);
    println!("call      {}", letter.notice.call);
    println!("callback  {}", letter.notice.callback);
    println!("message   {}", letter.message_id);
    println!();
    println!("{}", letter.notice.body);
}

fn at(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| time.0.to_string())
}
