//! `convoke tenant`: organisations, each with a domain of its own.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use control::TenantId;
use store::DirectoryKey;

use super::super::{Ended, Sources};
use super::{put, remove};
use crate::auth::fresh_id;
use crate::directory::DirectoryFile;
use crate::directory::file::TenantEntry;

/// Adds, changes, lists and removes tenants
#[derive(Debug, Subcommand)]
pub(in super::super) enum TenantCommand {
    Add(Add),
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Adds a tenant
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke tenant add contoso.example")]
pub(in super::super) struct Add {
    /// The host of its users' SIP addresses
    domain: String,
    /// Its id [default: a new one]
    #[arg(long, value_name = "GUID")]
    id: Option<TenantId>,
    #[command(flatten)]
    sources: Sources,
}

/// Changes a tenant's domain
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  convoke tenant set 72f988bf-86f1-41af-91ab-2d7cd011db47 --domain contoso.example"
)]
pub(in super::super) struct Set {
    id: TenantId,
    #[arg(long)]
    domain: String,
    #[command(flatten)]
    sources: Sources,
}

/// Lists tenants
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke tenant list")]
pub(in super::super) struct List {
    #[command(flatten)]
    sources: Sources,
}

/// Removes a tenant that has no applications and users left
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke tenant remove 72f988bf-86f1-41af-91ab-2d7cd011db47")]
pub(in super::super) struct Remove {
    id: TenantId,
    #[command(flatten)]
    sources: Sources,
}

impl TenantCommand {
    pub(in super::super) async fn run(self) -> Ended {
        match self {
            Self::Add(add) => {
                let entry = TenantEntry { id: add.id.unwrap_or_else(|| TenantId(fresh_id())), domain: add.domain };
                put(&*add.sources.store_or_new()?, file(entry)).await
            }
            Self::Set(set) => {
                let store = set.sources.store()?;
                if store.directory().await?.tenant(set.id).is_none() {
                    anyhow::bail!("there is no tenant {}", set.id);
                }
                put(&*store, file(TenantEntry { id: set.id, domain: set.domain })).await
            }
            Self::List(list) => {
                for tenant in list.sources.store()?.directory().await?.tenants() {
                    println!("{}  {}", tenant.id, tenant.domain);
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Remove(gone) => {
                let store = gone.sources.store()?;
                let directory = store.directory().await?;
                let apps = directory.apps().filter(|app| app.tenant == gone.id).count();
                let users = directory.users().filter(|user| user.tenant == gone.id).count();
                if apps + users > 0 {
                    anyhow::bail!("the tenant still has {apps} applications and {users} users: remove them first");
                }
                remove(&*store, DirectoryKey::Tenant(gone.id)).await
            }
        }
    }
}

fn file(entry: TenantEntry) -> DirectoryFile {
    DirectoryFile { tenants: vec![entry], ..DirectoryFile::default() }
}
