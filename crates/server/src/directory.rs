//! The directory at work: applied from a file, and kept current in a running server.
//!
//! A command writes rows; the server looks at their version several times a second and takes a change up as a whole: the
//! API's picture, the switch's, and the test lines that run beside it.

pub mod file;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use store::{Change, Directory, Store, StoreError};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use file::{DirectoryFile, FileError};

#[derive(Debug, Error)]
pub enum ApplyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often the version is looked at: a change is taken up well within a second.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Creates and updates what the file holds and, if `prune`, deletes everything else. Applying it again changes nothing.
pub async fn apply(store: &dyn Store, path: &Path, prune: bool) -> Result<Vec<Change>, ApplyError> {
    let file = DirectoryFile::read(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let current = store.directory().await?;
    Ok(store.apply(file.resolve(&current, folder)?, prune).await?)
}

/// The pictures of the directory that the server works by.
#[derive(Clone, Debug)]
pub struct Pictures {
    pub directory: Arc<ArcSwap<Directory>>,
    pub switch: Arc<ArcSwap<switch::Directory>>,
}

impl Pictures {
    pub async fn take(store: &dyn Store) -> Result<Self, StoreError> {
        let directory = store.directory().await?;
        let switch = Arc::new(ArcSwap::from_pointee(for_switch(&directory)));
        Ok(Self { directory: Arc::new(ArcSwap::from_pointee(directory)), switch })
    }

    /// Keeps the pictures current, and the lines as the directory says, until `stop`.
    pub async fn keep(self, store: Arc<dyn Store>, lines: Option<TestLines>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.look(&*store).await {
                Ok(changed) => {
                    failing = false;
                    if let (true, Some(lines)) = (changed, &lines) {
                        lines.set(&self.directory.load()).await;
                    }
                }
                Err(error) if failing => tracing::debug!(%error, "the directory still cannot be read"),
                Err(error) => {
                    failing = true;
                    tracing::error!(%error, "the directory cannot be read; the last picture of it stays in force");
                }
            }
        }
    }

    async fn look(&self, store: &dyn Store) -> Result<bool, StoreError> {
        if store.directory_version().await? == self.directory.load().version() {
            return Ok(false);
        }
        let directory = store.directory().await?;
        tracing::info!(
            tenants = directory.tenants().count(),
            apps = directory.apps().count(),
            users = directory.users().count(),
            trunks = directory.trunks().count(),
            "the directory has changed"
        );
        self.switch.store(Arc::new(for_switch(&directory)));
        self.directory.store(Arc::new(directory));
        Ok(true)
    }
}

/// The phones that the server plays itself, over real SIP on loopback.
#[derive(Clone, Debug)]
pub struct TestLines {
    pub bank: phone::PhoneBank,
    /// Where they register.
    pub registrar: SocketAddr,
}

impl TestLines {
    /// Makes the lines those of the directory. One that cannot start is told and does not hold up the others.
    pub async fn set(&self, directory: &Directory) {
        for failed in self.bank.set(lines(directory, self.registrar)).await {
            tracing::error!(line = failed.line, why = %failed.why, "a test line cannot start");
        }
    }
}

/// The lines that a directory asks for.
pub fn lines(directory: &Directory, registrar: SocketAddr) -> Vec<phone::Line> {
    let users = directory.users().filter_map(|user| {
        let (line, sip) = (file::stored_line(user.line.as_ref()?)?, user.sip.as_ref()?);
        let domain = directory.tenant(user.tenant)?.domain.clone();
        Some(phone::Line {
            name: format!("{}@{domain}", sip.username),
            script: line.script,
            place: phone::Place::Registered(phone::Account {
                server: registrar.to_string(),
                transport: phone::Transport::Udp,
                domain,
                username: sip.username.clone(),
                password: line.password?,
                display: Some(user.name.clone()),
                expires: LINES_REGISTER_FOR,
            }),
        })
    });
    let trunks = directory.trunks().filter_map(|trunk| {
        let line = file::stored_line(trunk.line.as_ref()?)?;
        Some(phone::Line {
            name: trunk.name.clone(),
            script: line.script,
            place: phone::Place::Trunk(phone::TrunkLine {
                bind: file::trunk_address(&trunk.uri)?,
                challenge: trunk.username.clone().zip(trunk.password.clone()),
            }),
        })
    });
    users.chain(trunks).collect()
}

/// Long enough to be no traffic, short enough that a line of a dead server is forgotten.
const LINES_REGISTER_FOR: Duration = Duration::from_mins(10);

/// The part of the directory that the switch needs.
fn for_switch(directory: &Directory) -> switch::Directory {
    let users = directory.users().filter_map(|user| {
        let sip = user.sip.as_ref()?;
        Some(switch::User {
            tenant: user.tenant,
            domain: directory.tenant(user.tenant)?.domain.clone(),
            username: sip.username.clone(),
            ha1_md5: sip.ha1_md5.clone(),
            ha1_sha256: sip.ha1_sha256.clone(),
        })
    });
    let trunks = directory.trunks().map(|trunk| switch::Trunk {
        name: trunk.name.clone(),
        uri: trunk.uri.clone(),
        prefixes: trunk.prefixes.clone(),
        strip: trunk.strip.into(),
        prepend: trunk.prepend.clone(),
        credentials: trunk
            .username
            .clone()
            .zip(trunk.password.clone())
            .map(|(username, password)| switch::TrunkCredentials { username, password }),
        register: trunk.register,
        tenants: (!trunk.tenants.is_empty()).then(|| trunk.tenants.clone()),
    });
    switch::Directory::new(users, trunks.collect())
}
