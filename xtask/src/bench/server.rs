//! The server under test: the release binary as a process of its own, on its own core, in a directory of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::client::{APP, SECRET, TENANT, is_ready, user_id};
use super::machine::{self, SERVER_CORE};

/// What one server is set up for.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The release binary.
    pub(super) binary: PathBuf,
    pub(super) hook: SocketAddr,
    /// Where the far end of the trunk listens.
    pub(super) trunk: SocketAddr,
    pub(super) users: usize,
    /// Codecs that are offered.
    pub(super) codec: &'static str,
    /// Whether it goes before other work of the machine.
    pub(super) urgent: bool,
}

/// A data directory, set up and ready to be served.
#[derive(Debug)]
pub(super) struct Prepared {
    setup: Setup,
    folder: tempfile::TempDir,
    pub(super) api: SocketAddr,
    pub(super) sip: SocketAddr,
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
}

pub(super) const DOMAIN: &str = "contoso.example";
/// The SIP password of every user.
pub(super) const PASSWORD: &str = "only-for-tests";

const READY_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn user_name(number: usize) -> String {
    format!("user{number}")
}

impl Prepared {
    pub(super) fn new(setup: Setup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("convoke-bench-").tempdir()?;
        let (http, sip) = (free_port()?, free_port()?);
        let prepared =
            Self { setup, folder, api: (Ipv4Addr::LOCALHOST, http).into(), sip: (Ipv4Addr::LOCALHOST, sip).into() };
        fs::write(prepared.config(), prepared.config_text())?;
        let directory = prepared.path().join("directory.toml");
        fs::write(&directory, prepared.directory_text())?;
        prepared.run(&["directory", "apply", &directory.to_string_lossy()])?;
        Ok(prepared)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.path().join("convoke.toml")
    }

    fn config_text(&self) -> String {
        let (data, codec) = (self.path().join("data").display().to_string(), self.setup.codec);
        let (api, sip) = (self.api, self.sip);
        // The ports for audio lie below those that the system gives away by itself.
        format!(
            "data = {data:?}\ndev = true\nhand_over = true\n\
             [http]\nlisten = \"127.0.0.1:0\"\nplain_listen = \"{api}\"\n\
             [sip]\nudp_listen = \"{sip}\"\ntcp_listen = \"{sip}\"\n\
             [rtp]\nports = \"10000-19999\"\ncodecs = [\"{codec}\"]\n\
             [log]\nlevel = \"warn\"\n"
        )
    }

    fn directory_text(&self) -> String {
        let Setup { hook, trunk, users, .. } = &self.setup;
        let mut text = format!(
            "[[tenant]]\nid = \"{TENANT}\"\ndomain = \"{DOMAIN}\"\n\
             [[app]]\nid = \"{APP}\"\ntenant = \"{TENANT}\"\nname = \"Bench\"\nsecret = \"{SECRET}\"\n\
             roles = [\"Calls.Initiate.All\", \"Calls.InitiateGroupCall.All\", \"Calls.JoinGroupCall.All\", \
             \"OnlineMeetings.ReadWrite.All\"]\n\
             callback = \"http://{hook}/api/calls\"\nnumber = \"+12065550100\"\n\
             may_remove_participants = true\n\
             [[trunk]]\nname = \"carrier\"\nuri = \"sip:{trunk}\"\nprefixes = [\"+\"]\n"
        );
        for number in 0..(*users).max(1) {
            let (id, name) = (user_id(number), user_name(number));
            let _ = write!(
                text,
                "[[user]]\nid = \"{id}\"\ntenant = \"{TENANT}\"\nname = \"User {number}\"\nupn = \"{name}@{DOMAIN}\"\n\
                 sip = {{ username = \"{name}\", password = \"{PASSWORD}\" }}\n"
            );
        }
        text
    }

    /// Runs a command of the server's on this data directory: what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let done = Command::new(&self.setup.binary).args(arguments).arg("--config").arg(self.config()).output()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        ensure!(done.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&done.stderr));
        Ok(text)
    }

    /// Whether a notification was given up.
    pub(super) fn has_dead_letters(&self) -> Result<bool> {
        Ok(!self.run(&["deadletter", "list"])?.starts_with("Nothing"))
    }

    /// The database and its log, bytes.
    pub(super) fn database_bytes(&self) -> u64 {
        let files = fs::read_dir(self.path().join("data")).into_iter().flatten().flatten();
        files.filter(|file| file.file_name().to_string_lossy().contains(".db")).map(|file| size(&file)).sum()
    }

    /// Starts the server and waits until it is ready: how long that took.
    pub(super) async fn serve(&self) -> Result<(Server, Duration)> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let began = Instant::now();
        // A session of its own, so that its weight can be set without touching anyone else's.
        let child = Command::new("setsid")
            .args(["taskset", "-c", &SERVER_CORE.to_string()])
            .arg(&self.setup.binary)
            .args(["serve", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run setsid and taskset (Debian: util-linux)")?;
        let mut server = Server { child };
        if self.setup.urgent && !machine::raise(server.pid()) {
            eprintln!("the server cannot be raised above other work: not root");
        }
        while !is_ready(self.api).await {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended ({status}): {}", self.newest_log());
            }
            ensure!(began.elapsed() < READY_WITHIN, "the server is not ready: {}", self.newest_log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok((server, began.elapsed()))
    }

    fn log(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// The end of what the server wrote.
    pub(super) fn newest_log(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

const LOG_LINES: usize = 8;

impl Server {
    /// `kill -9`; back when it is dead.
    pub(super) fn die(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; back when it has ended by itself.
    pub(super) fn terminate(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn processor_time(&self) -> Result<Duration> {
        machine::processor_time(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that is deleted meanwhile has none.
fn size(file: &fs::DirEntry) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// A port that is free for UDP and TCP just now.
pub(super) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
