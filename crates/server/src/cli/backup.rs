//! `convoke backup` and `convoke restore`: the whole of a data directory in one file, and back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use store::sqlite::{self, Existing};

use super::{Ended, Sources, at};
use crate::auth::wall_clock;
use crate::certs::{AUTHORITY_FILES, DERIVED_FILES};

/// Writes a backup of the data directory into one file, while the server runs
///
/// It holds everything that was committed before it began: the database, and the certificate authority with its key. Keep
/// it as secret as the data directory. It appears under its name once it is whole, checked and on disk.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke backup /backup/convoke-$(date +%F).backup --data /var/lib/convoke\n  \
    convoke backup /backup/latest.backup --force")]
pub(super) struct BackupCommand {
    /// The file to write
    file: PathBuf,
    /// Replaces the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    sources: Sources,
}

/// Makes a data directory of a backup
///
/// The backup is read and checked as a whole first. A directory that holds anything is refused unless --force is given,
/// which moves what convoke keeps there into DIR/before-restore-N. The server must not run.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke restore /backup/convoke-2026-01-31.backup --data /var/lib/convoke\n  \
    convoke restore /backup/latest.backup --check        # only says whether it is sound")]
pub(super) struct RestoreCommand {
    /// The backup
    file: PathBuf,
    /// Moves aside what convoke keeps in the directory
    #[arg(long)]
    force: bool,
    /// Reads and checks the backup, and restores nothing
    #[arg(long, conflicts_with = "force")]
    check: bool,
    #[command(flatten)]
    sources: Sources,
}

impl BackupCommand {
    pub(super) async fn run(self) -> Ended {
        let data = self.sources.data()?;
        let (file, existing) = (self.file, existing(self.force));
        let made = tokio::task::spawn_blocking(move || {
            sqlite::back_up(&data, &file, &AUTHORITY_FILES, env!("CARGO_PKG_VERSION"), wall_clock(), existing)
                .map(|backup| (file, backup))
        });
        let (file, backup) = made.await??;
        print(&file, &backup);
        Ok(ExitCode::SUCCESS)
    }
}

impl RestoreCommand {
    pub(super) async fn run(self) -> Ended {
        let data = self.sources.load(Vec::new())?.config.data;
        let (file, existing, check) = (self.file, existing(self.force), self.check);
        let restored = tokio::task::spawn_blocking(move || {
            if check {
                print(&file, &sqlite::inspect_backup(&file)?);
                println!("It is sound.");
                return Ok(());
            }
            let restored = sqlite::restore(&file, &data, &DERIVED_FILES, existing)?;
            print(&file, &restored.backup);
            println!("restored  {}", data.display());
            if let Some(aside) = restored.aside {
                println!("before    what was there is in {}", aside.display());
            }
            Ok::<_, sqlite::BackupError>(())
        });
        restored.await??;
        Ok(ExitCode::SUCCESS)
    }
}

fn existing(force: bool) -> Existing {
    if force { Existing::Replace } else { Existing::Refuse }
}

fn print(file: &Path, backup: &sqlite::Backup) {
    println!("backup    {}, {} KiB", file.display(), backup.bytes / 1024);
    println!("made      {} by convoke {}", at(backup.made), backup.by);
    println!("holds     the database (schema {}) {}", backup.schema, backup.files.join(" "));
}
