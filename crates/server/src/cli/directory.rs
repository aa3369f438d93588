//! `convoke directory`, and what the commands for its parts have in common.

pub(super) mod app;
pub(super) mod number;
pub(super) mod tenant;
pub(super) mod trunk;
pub(super) mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use control::TenantId;
use store::{Change, Directory, DirectoryKey, Store, Verb};

use super::{Ended, Sources};
use crate::directory::{self, DirectoryFile};

/// Applies a file of tenants, applications, users and trunks, or shows what is set up
///
/// Works whether the server runs or not; a running one takes a change up within a second.
#[derive(Debug, Subcommand)]
pub(super) enum DirectoryCommand {
    Apply(Apply),
    Show(Show),
}

/// Creates and updates what a file holds
///
/// Applying the same file again changes nothing. Entries that the file does not name stay, unless --prune is given.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke directory apply directory.toml --data /var/lib/convoke\n  \
    convoke directory apply directory.toml --prune      # and delete everything else")]
pub(super) struct Apply {
    /// The file (TOML)
    file: PathBuf,
    /// Deletes what the file does not name
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    sources: Sources,
}

/// Prints the directory as a file that could be applied, secrets left out
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke directory show > directory.toml")]
pub(super) struct Show {
    #[command(flatten)]
    sources: Sources,
}

impl DirectoryCommand {
    pub(super) async fn run(self) -> Ended {
        match self {
            Self::Apply(apply) => {
                let store = apply.sources.store_or_new()?;
                print_changes(&directory::apply(&*store, &apply.file, apply.prune).await?);
            }
            Self::Show(show) => {
                let directory = show.sources.store()?.directory().await?;
                println!("# Secrets are left out; applied again, they stay as they are.\n");
                print!("{}", toml::to_string(&DirectoryFile::of(&directory))?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts entries into the store, as a file would.
async fn put(store: &dyn Store, file: DirectoryFile) -> Ended {
    let current = store.directory().await?;
    let changes = store.apply(file.resolve(&current, Path::new("."))?, false).await?;
    print_changes(&changes);
    Ok(ExitCode::SUCCESS)
}

async fn remove(store: &dyn Store, key: DirectoryKey) -> Ended {
    let named = describe(&key);
    if store.delete(key).await? {
        println!("deleted    {named}");
        Ok(ExitCode::SUCCESS)
    } else {
        bail!("there is no {named}")
    }
}

fn print_changes(changes: &[Change]) {
    for change in changes {
        let verb = match change.verb {
            Verb::Created => "created",
            Verb::Updated => "updated",
            Verb::Unchanged => "unchanged",
            Verb::Deleted => "deleted",
        };
        println!("{verb:10} {}  {}", describe(&change.key), change.name);
    }
}

fn describe(key: &DirectoryKey) -> String {
    match key {
        DirectoryKey::Tenant(id) => format!("tenant {id}"),
        DirectoryKey::App(id) => format!("app {id}"),
        DirectoryKey::User(id) => format!("user {id}"),
        DirectoryKey::Trunk(name) => format!("trunk {name}"),
    }
}

/// A tenant by id or domain; without either, the only one there is.
fn tenant(directory: &Directory, named: Option<&str>) -> anyhow::Result<TenantId> {
    let Some(named) = named else {
        let mut all = directory.tenants();
        return match (all.next(), all.next()) {
            (Some(only), None) => Ok(only.id),
            (None, _) => bail!("there is no tenant yet: begin with `convoke tenant add DOMAIN`"),
            (Some(_), Some(_)) => bail!("there are several tenants: name one with --tenant"),
        };
    };
    let by_id = named.parse().ok().and_then(|id| directory.tenant(id));
    match by_id.or_else(|| directory.tenant_by_domain(named)) {
        Some(tenant) => Ok(tenant.id),
        None => bail!("there is no tenant {named}"),
    }
}

/// A test line as `{ answer_after = "300ms" }` or without the braces.
fn script(text: &str) -> Result<serde_json::Value, String> {
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    let table: toml::Table =
        toml::from_str(&format!("line = {{ {inner} }}")).map_err(|error| error.message().to_owned())?;
    serde_json::to_value(&table["line"]).map_err(|error| error.to_string())
}
