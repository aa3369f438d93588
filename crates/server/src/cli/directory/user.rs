//! `convoke user`: people with phones.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::UserId;
use serde_json::Value;
use store::DirectoryKey;

use super::super::{Ended, Sources};
use super::{put, remove, script, tenant};
use crate::auth::fresh_id;
use crate::directory::DirectoryFile;
use crate::directory::file::{SipEntry, UserEntry};

/// Adds, changes, lists and removes users
#[derive(Debug, Subcommand)]
pub(in super::super) enum UserCommand {
    Add(Add),
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Adds a user, whose phone registers with user name and password
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke user add \"Front desk\" --username front-desk --password only-for-tests\n  \
    convoke user add \"Test line\" --username line --password x --line 'answer_after = \"300ms\", say = \"tone:440\"'")]
pub(in super::super) struct Add {
    name: String,
    /// Its directory object id [default: a new one]
    #[arg(long, value_name = "GUID")]
    id: Option<UserId>,
    /// Its tenant, by id or domain [default: the only one]
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    sources: Sources,
}

/// Changes a user: what is not named stays
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  \
    convoke user set 278405a3-f568-4b3e-b684-009193463064 --password-file new-password")]
pub(in super::super) struct Set {
    id: UserId,
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    sources: Sources,
}

/// Lists users
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke user list")]
pub(in super::super) struct List {
    #[command(flatten)]
    sources: Sources,
}

/// Removes a user
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke user remove 278405a3-f568-4b3e-b684-009193463064")]
pub(in super::super) struct Remove {
    id: UserId,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, Args)]
struct Facts {
    /// The user principal name, as in `front-desk@contoso.example`
    #[arg(long)]
    upn: Option<String>,
    /// The name the phone registers with
    #[arg(long)]
    username: Option<String>,
    /// The password the phone registers with
    #[arg(long, env = "CONVOKE_SIP_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// A file that holds the password
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// A test line's script: the server then plays the user's phone itself
    #[arg(long, value_name = "SCRIPT", value_parser = script)]
    line: Option<Value>,
    /// Takes the test line away
    #[arg(long, conflicts_with = "line")]
    no_line: bool,
}

impl Facts {
    /// What is given, laid over what is there.
    fn over(self, entry: UserEntry) -> anyhow::Result<UserEntry> {
        let known = entry.sip.map(|sip| sip.username);
        let sip = match self.username.or(known) {
            Some(username) => Some(SipEntry { username, password: self.password, password_file: self.password_file }),
            None if self.password.is_some() || self.password_file.is_some() => {
                anyhow::bail!("a password needs a --username")
            }
            None => None,
        };
        let line = if self.no_line { None } else { self.line.or(entry.line) };
        Ok(UserEntry { upn: self.upn.or(entry.upn), sip, line, ..entry })
    }
}

impl UserCommand {
    pub(in super::super) async fn run(self) -> Ended {
        match self {
            Self::Add(add) => {
                let store = add.sources.store()?;
                let directory = store.directory().await?;
                let entry = UserEntry {
                    id: add.id.unwrap_or_else(|| UserId(fresh_id())),
                    tenant: tenant(&directory, add.tenant.as_deref())?,
                    name: add.name,
                    upn: None,
                    sip: None,
                    line: None,
                };
                put(&*store, file(add.facts.over(entry)?)).await
            }
            Self::Set(set) => {
                let store = set.sources.store()?;
                let known = DirectoryFile::of(&store.directory().await?);
                let Some(mut entry) = known.users.into_iter().find(|user| user.id == set.id) else {
                    anyhow::bail!("there is no user {}", set.id);
                };
                entry.name = set.name.unwrap_or(entry.name);
                put(&*store, file(set.facts.over(entry)?)).await
            }
            Self::List(list) => {
                let directory = list.sources.store()?.directory().await?;
                for user in directory.users() {
                    let domain = directory.tenant(user.tenant).map_or("?", |tenant| tenant.domain.as_str());
                    let address = user
                        .sip
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), |sip| format!("sip:{}@{domain}", sip.username));
                    let line = if user.line.is_some() { "  (test line)" } else { "" };
                    println!("{}  {}  {address}{line}", user.id, user.name);
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Remove(gone) => remove(&*gone.sources.store()?, DirectoryKey::User(gone.id)).await,
        }
    }
}

fn file(entry: UserEntry) -> DirectoryFile {
    DirectoryFile { users: vec![entry], ..DirectoryFile::default() }
}
