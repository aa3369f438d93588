//! A file under way: it has its name only once it is whole and on disk, and is gone if it never gets there.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What happens to a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

/// Dropped, it is deleted.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    /// Locked, so that what a killed process left is told from what another one is writing.
    file: File,
    /// Under its own name, where nothing of it is left to delete.
    moved: bool,
}

impl Partial {
    /// A new file at `path`, which only its owner may read. What a killed process left there is taken over; a file that
    /// another process is writing is refused as [`io::ErrorKind::WouldBlock`].
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
            TryLockError::Error(error) => error,
        })?;
        let partial = Self { path, file, moved: false };
        partial.file.set_permissions(Permissions::from_mode(0o600))?;
        partial.file.set_len(0)?;
        partial.clear_sides();
        Ok(partial)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, once everything that was written to it is on disk.
    pub(super) fn publish(mut self, path: &Path, existing: Existing) -> io::Result<()> {
        self.file.sync_all()?;
        match existing {
            Existing::Replace => self.rename(path)?,
            Existing::Refuse => match fs::hard_link(&self.path, path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                // A file system without links: then two at the same moment are not told apart.
                Err(_) if path.exists() => return Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => self.rename(path)?,
            },
        }
        sync_folder(path)
    }

    fn rename(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.moved = true;
        Ok(())
    }

    /// SQLite leaves side files when it is interrupted.
    fn clear_sides(&self) {
        for end in ["-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(with_end(&self.path, end));
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.moved {
            let _ = fs::remove_file(&self.path);
            self.clear_sides();
        }
    }
}

/// A file beside `path`: its name with something added.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// A name is on disk when its folder is.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
