//! `convoke number`: which application calls the public network from which number.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use control::{AppId, PhoneNumber};
use store::{App, Directory, DirectorySet, Store};

use super::super::{Ended, Sources};
use super::print_changes;

/// Gives numbers to applications, lists them and takes them away
#[derive(Debug, Subcommand)]
pub(in super::super) enum NumberCommand {
    Add(Give),
    Set(Give),
    List(List),
    Remove(Remove),
}

/// Gives a number to an application, in place of the one it had
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke number add +12065550100 --app 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01")]
pub(in super::super) struct Give {
    #[arg(value_name = "E.164", value_parser = number)]
    number: PhoneNumber,
    /// The application [default: the only one]
    #[arg(long, value_name = "GUID")]
    app: Option<AppId>,
    #[command(flatten)]
    sources: Sources,
}

/// Lists numbers
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke number list")]
pub(in super::super) struct List {
    #[command(flatten)]
    sources: Sources,
}

/// Takes a number away
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke number remove +12065550100")]
pub(in super::super) struct Remove {
    #[arg(value_name = "E.164", value_parser = number)]
    number: PhoneNumber,
    #[command(flatten)]
    sources: Sources,
}

impl NumberCommand {
    pub(in super::super) async fn run(self) -> Ended {
        match self {
            Self::Add(give) | Self::Set(give) => {
                let store = give.sources.store()?;
                let directory = store.directory().await?;
                let app = app(&directory, give.app)?.clone();
                put(&*store, App { number: Some(give.number), ..app }).await
            }
            Self::List(list) => {
                for app in list.sources.store()?.directory().await?.apps() {
                    if let Some(number) = &app.number {
                        println!("{}  {}  {}", number.as_str(), app.id, app.name);
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Remove(gone) => {
                let store = gone.sources.store()?;
                let Some(app) = store.directory().await?.app_by_number(&gone.number).cloned() else {
                    bail!("no application has the number {}", gone.number.as_str());
                };
                put(&*store, App { number: None, ..app }).await
            }
        }
    }
}

async fn put(store: &dyn Store, app: App) -> Ended {
    print_changes(&store.apply(DirectorySet::from(app), false).await?);
    Ok(ExitCode::SUCCESS)
}

fn app(directory: &Directory, id: Option<AppId>) -> anyhow::Result<&App> {
    let mut all = directory.apps();
    match id {
        Some(id) => match directory.app(id) {
            Some(app) => Ok(app),
            None => bail!("there is no app {id}"),
        },
        None => match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => bail!("there is no application yet: begin with `convoke app add NAME`"),
            (Some(_), Some(_)) => bail!("there are several applications: name one with --app"),
        },
    }
}

fn number(text: &str) -> Result<PhoneNumber, String> {
    PhoneNumber::parse(text).ok_or_else(|| "not E.164, as in +12065550100".to_owned())
}
