//! `convoke hook`: a webhook to look at notifications with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use control::AppId;

use super::{Ended, Sources, asked_to_stop};
use crate::certs::{self, Authority, Served};
use crate::config::Span;
use crate::hook::{Hook, Manners, Verifier};

/// Receives notifications, checks their tokens, and prints them
///
/// Speaks TLS with a certificate of the server's own authority, which notifications trust. Tokens are checked against
/// the server's metadata document and key set, as bots do.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke hook --listen 127.0.0.1:9443\n  \
    convoke hook --listen 127.0.0.1:9080 --plain --json\n  \
    convoke hook --fail 3 --delay 2s      # three times 503, and every answer takes its time")]
pub(super) struct HookCommand {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// Plain HTTP, which a server with `dev` accepts on its own machine
    #[arg(long)]
    plain: bool,
    /// The server whose tokens are checked
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443")]
    server: String,
    /// Takes tokens of this application only
    #[arg(long, value_name = "GUID")]
    client_id: Option<AppId>,
    /// Takes every token, unseen
    #[arg(long)]
    no_verify: bool,
    /// Prints one JSON line per request
    #[arg(long)]
    json: bool,
    /// Answers so many requests with 503 first
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail: u32,
    /// The status of every other answer
    #[arg(long, value_name = "STATUS", default_value_t = 202, value_parser = clap::value_parser!(u16).range(200..600))]
    status: u16,
    /// How long each answer takes
    #[arg(long, value_name = "TIME", default_value = "0ms")]
    delay: Span,
    /// More names for the certificate
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    /// A certificate authority to trust at the server [default: DIR/ca.pem]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
}

impl HookCommand {
    pub(super) async fn run(self) -> Ended {
        let data = self.sources.load(Vec::new())?.config.data;
        let authority = Authority::open(&data)?;
        let tls = if self.plain {
            None
        } else {
            let names: Vec<String> = certs::server_names(self.name.iter().cloned()).into_iter().collect();
            Some(Served::new(authority.issue(&names)?.loaded()?).server_config()?)
        };
        let verifier = if self.no_verify {
            None
        } else {
            Some(Verifier::new(&self.server, self.client_id, certs::roots(Some(authority.pem()), self.ca.as_deref())?)?)
        };
        let listener = tokio::net::TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        let Span(delay) = self.delay;
        let manners = Manners { status: Some(self.status), delay, fail: self.fail };
        let mut hook = Hook::start(listener, tls, verifier, manners)?;
        let scheme = if self.plain { "http" } else { "https" };
        eprintln!("Listening on {scheme}://localhost:{}; Ctrl-C ends it.", hook.address.port());
        let mut stop = std::pin::pin!(asked_to_stop());
        loop {
            let received = tokio::select! {
                _ = &mut stop => break,
                received = hook.next() => match received {
                    Some(received) => received,
                    None => break,
                },
            };
            if self.json {
                println!("{}", serde_json::to_string(&received)?);
            } else {
                received.lines().iter().for_each(|line| println!("{line}"));
            }
        }
        hook.stop();
        Ok(ExitCode::SUCCESS)
    }
}
