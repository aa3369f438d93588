//! `convoke app`: applications that may call.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::AppId;
use store::DirectoryKey;

use super::super::{Ended, Sources};
use super::{put, remove, tenant};
use crate::auth::fresh_id;
use crate::directory::DirectoryFile;
use crate::directory::file::AppEntry;

/// Adds, changes, lists and removes applications
#[derive(Debug, Subcommand)]
pub(in super::super) enum AppCommand {
    Add(Add),
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Adds an application
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  \
    convoke app add \"Incident bot\" --secret only-for-tests --callback https://localhost:9443/api/calls \\\n    \
    --role Calls.Initiate.All --role Calls.InitiateGroupCall.All --number +12065550100")]
pub(in super::super) struct Add {
    name: String,
    /// Its client id [default: a new one]
    #[arg(long, value_name = "GUID")]
    id: Option<AppId>,
    /// Its tenant, by id or domain [default: the only one]
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    sources: Sources,
}

/// Changes an application: what is not named stays
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  \
    convoke app set 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01 --secret-file new-secret --callback https://bot.example/calls")]
pub(in super::super) struct Set {
    id: AppId,
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    sources: Sources,
}

/// Lists applications
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke app list")]
pub(in super::super) struct List {
    #[command(flatten)]
    sources: Sources,
}

/// Removes an application
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke app remove 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01")]
pub(in super::super) struct Remove {
    id: AppId,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, Args)]
struct Facts {
    /// The client secret
    #[arg(long, env = "CONVOKE_CLIENT_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// A file that holds the client secret
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    secret_file: Option<PathBuf>,
    /// A permission, such as `Calls.Initiate.All`; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Where notifications go when a call names no other place
    #[arg(long, value_name = "URL")]
    callback: Option<String>,
    /// A host, or host and port, where a call may ask for its notifications; may be given several times
    #[arg(long = "callback-host", value_name = "HOST")]
    callback_hosts: Vec<String>,
    /// The number its calls to the public network come from
    #[arg(long, value_name = "E.164")]
    number: Option<String>,
    /// The id of its application instance [default: the client id]
    #[arg(long, value_name = "GUID")]
    instance: Option<AppId>,
    /// Whether it may remove participants
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    may_remove_participants: Option<bool>,
}

impl Facts {
    /// What is given, laid over what is there.
    fn over(self, entry: AppEntry) -> AppEntry {
        let callback_hosts = match (self.callback_hosts.is_empty(), &self.callback) {
            (false, _) => Some(self.callback_hosts),
            // A new callback brings its own host, unless others are named.
            (true, Some(_)) => None,
            (true, None) => entry.callback_hosts,
        };
        AppEntry {
            secret: self.secret,
            secret_file: self.secret_file,
            roles: if self.roles.is_empty() { entry.roles } else { self.roles },
            callback: self.callback.or(entry.callback),
            callback_hosts,
            number: self.number.or(entry.number),
            instance: self.instance.or(entry.instance),
            may_remove_participants: self.may_remove_participants.unwrap_or(entry.may_remove_participants),
            ..entry
        }
    }
}

impl AppCommand {
    pub(in super::super) async fn run(self) -> Ended {
        match self {
            Self::Add(add) => {
                let store = add.sources.store()?;
                let directory = store.directory().await?;
                let entry = AppEntry {
                    id: add.id.unwrap_or_else(|| AppId(fresh_id())),
                    tenant: tenant(&directory, add.tenant.as_deref())?,
                    name: add.name,
                    secret: None,
                    secret_file: None,
                    roles: Vec::new(),
                    callback: None,
                    callback_hosts: None,
                    number: None,
                    instance: None,
                    may_remove_participants: false,
                };
                put(&*store, file(add.facts.over(entry))).await
            }
            Self::Set(set) => {
                let store = set.sources.store()?;
                let known = DirectoryFile::of(&store.directory().await?);
                let Some(mut entry) = known.apps.into_iter().find(|app| app.id == set.id) else {
                    anyhow::bail!("there is no app {}", set.id);
                };
                entry.name = set.name.unwrap_or(entry.name);
                put(&*store, file(set.facts.over(entry))).await
            }
            Self::List(list) => {
                for app in list.sources.store()?.directory().await?.apps() {
                    let number = app.number.as_ref().map_or("-", |number| number.as_str());
                    let callback = app.callback.as_deref().unwrap_or("-");
                    println!("{}  {}  {number}  {callback}  {}", app.id, app.name, app.roles.join(" "));
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Remove(gone) => remove(&*gone.sources.store()?, DirectoryKey::App(gone.id)).await,
        }
    }
}

fn file(entry: AppEntry) -> DirectoryFile {
    DirectoryFile { apps: vec![entry], ..DirectoryFile::default() }
}
