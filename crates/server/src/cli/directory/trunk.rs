//! `convoke trunk`: ways to the public network.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::TenantId;
use serde_json::Value;
use store::DirectoryKey;

use super::super::{Ended, Sources};
use super::{put, remove, script};
use crate::directory::DirectoryFile;
use crate::directory::file::TrunkEntry;

/// Adds, changes, lists and removes trunks
#[derive(Debug, Subcommand)]
pub(in super::super) enum TrunkCommand {
    Add(Add),
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Adds a trunk
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke trunk add carrier sip:sip.carrier.example --username 4711 --password-file secret --register\n  \
    convoke trunk add national sip:192.0.2.1:5060 --prefix +49 --strip 3 --prepend 0")]
pub(in super::super) struct Add {
    name: String,
    /// Where it is, as in sip:carrier.example:5060
    uri: String,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    sources: Sources,
}

/// Changes a trunk: what is not named stays
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke trunk set carrier --uri sip:sip2.carrier.example")]
pub(in super::super) struct Set {
    name: String,
    #[arg(long)]
    uri: Option<String>,
    #[command(flatten)]
    facts: Facts,
    #[command(flatten)]
    sources: Sources,
}

/// Lists trunks
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke trunk list")]
pub(in super::super) struct List {
    #[command(flatten)]
    sources: Sources,
}

/// Removes a trunk
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke trunk remove carrier")]
pub(in super::super) struct Remove {
    name: String,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, Args)]
struct Facts {
    /// The beginning of the numbers it takes; may be given several times [default: +]
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// Who we are there
    #[arg(long)]
    username: Option<String>,
    #[arg(long, env = "CONVOKE_TRUNK_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// A file that holds the password
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// Whether we register there
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    register: Option<bool>,
    /// How many characters of the number are cut off, the + counted
    #[arg(long, value_name = "N")]
    strip: Option<u8>,
    /// What is put in their place
    #[arg(long, value_name = "TEXT")]
    prepend: Option<String>,
    /// A tenant whose calls it takes; may be given several times [default: everybody's]
    #[arg(long = "tenant", value_name = "GUID")]
    tenants: Vec<TenantId>,
    /// A test line's script: the server then plays the whole public network itself
    #[arg(long, value_name = "SCRIPT", value_parser = script)]
    line: Option<Value>,
    /// Takes the test line away
    #[arg(long, conflicts_with = "line")]
    no_line: bool,
}

impl Facts {
    /// What is given, laid over what is there.
    fn over(self, entry: TrunkEntry) -> TrunkEntry {
        TrunkEntry {
            prefixes: if self.prefixes.is_empty() { entry.prefixes } else { self.prefixes },
            username: self.username.or(entry.username),
            password: self.password,
            password_file: self.password_file,
            register: self.register.unwrap_or(entry.register),
            strip: self.strip.unwrap_or(entry.strip),
            prepend: self.prepend.unwrap_or(entry.prepend),
            tenants: if self.tenants.is_empty() { entry.tenants } else { self.tenants },
            line: if self.no_line { None } else { self.line.or(entry.line) },
            ..entry
        }
    }
}

impl TrunkCommand {
    pub(in super::super) async fn run(self) -> Ended {
        match self {
            Self::Add(add) => {
                let entry = TrunkEntry {
                    name: add.name,
                    uri: add.uri,
                    prefixes: vec!["+".to_owned()],
                    username: None,
                    password: None,
                    password_file: None,
                    register: false,
                    strip: 0,
                    prepend: String::new(),
                    tenants: Vec::new(),
                    line: None,
                };
                put(&*add.sources.store_or_new()?, file(add.facts.over(entry))).await
            }
            Self::Set(set) => {
                let store = set.sources.store()?;
                let known = DirectoryFile::of(&store.directory().await?);
                let Some(mut entry) = known.trunks.into_iter().find(|trunk| trunk.name == set.name) else {
                    anyhow::bail!("there is no trunk {}", set.name);
                };
                entry.uri = set.uri.unwrap_or(entry.uri);
                put(&*store, file(set.facts.over(entry))).await
            }
            Self::List(list) => {
                for trunk in list.sources.store()?.directory().await?.trunks() {
                    let register = if trunk.register { "  registers" } else { "" };
                    let line = if trunk.line.is_some() { "  (test line)" } else { "" };
                    println!("{}  {}  {}{register}{line}", trunk.name, trunk.uri, trunk.prefixes.join(" "));
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Remove(gone) => remove(&*gone.sources.store()?, DirectoryKey::Trunk(gone.name)).await,
        }
    }
}

fn file(entry: TrunkEntry) -> DirectoryFile {
    DirectoryFile { trunks: vec![entry], ..DirectoryFile::default() }
}
