//! `convoke phone`: a scripted softphone for the terminal.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::phone::{Account, BankConfig, CodecName, Happening, Line, PhoneBank, Place, Reply, Say, Script, Transport};
use anyhow::Context as _;
use clap::Args;

use super::{Ended, asked_to_stop};
use crate::config::Span;

/// A scripted phone: registers, takes calls, talks, listens
///
/// What happens comes out as JSON lines.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke phone --user front-desk --domain contoso.example --password only-for-tests\n  \
    convoke phone --user front-desk --password only-for-tests --answer-after 2s --say tone:440 --record heard.wav\n  \
    convoke phone --user front-desk --password only-for-tests --decline")]
pub(super) struct PhoneCommand {
    /// The registrar
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5060")]
    server: String,
    /// The SIP user name
    #[arg(long)]
    user: String,
    /// The SIP password
    #[arg(long, env = "CONVOKE_SIP_PASSWORD", hide_env_values = true)]
    password: String,
    /// The domain of the tenant [default: the registrar's host]
    #[arg(long)]
    domain: Option<String>,
    /// Speaks TCP with the registrar
    #[arg(long)]
    tcp: bool,
    /// Where to listen [default: the address that leads to the registrar, any port]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How long it rings before it answers, declines or is busy
    #[arg(long, value_name = "TIME", default_value = "0ms")]
    answer_after: Span,
    /// Declines calls (603)
    #[arg(long, conflicts_with_all = ["busy", "no_answer"])]
    decline: bool,
    /// Is busy (486)
    #[arg(long, conflicts_with = "no_answer")]
    busy: bool,
    /// Rings for ever
    #[arg(long)]
    no_answer: bool,
    /// Hangs up so long after the answer
    #[arg(long, value_name = "TIME")]
    hangup_after: Option<Span>,
    /// `speech`, `tone:HZ`, `silence` or a WAV file
    #[arg(long, value_name = "SOUND", default_value = "speech")]
    say: Say,
    /// Keys to press once the call is up; a comma is a pause of one second
    #[arg(long, value_name = "KEYS", default_value = "")]
    dtmf: String,
    /// A codec it knows: pcmu, pcma, g722, opus; may be given several times [default: all]
    #[arg(long = "codec", value_name = "CODEC")]
    codecs: Vec<CodecName>,
    /// Writes what it hears
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// A frequency to listen for, in hertz; may be given several times
    #[arg(long, value_name = "HZ")]
    hear: Vec<f32>,
    /// Tells SIP messages too, secrets masked
    #[arg(long)]
    trace: bool,
    /// Calls somebody: a SIP URI, a user, or a number
    #[arg(long, value_name = "TO")]
    dial: Option<String>,
}

/// For farewells at the end.
const FAREWELL: Duration = Duration::from_secs(3);

impl PhoneCommand {
    pub(super) async fn run(self) -> Ended {
        let reply = match (self.decline, self.busy, self.no_answer) {
            (true, _, _) => Reply::Refuse(603),
            (_, true, _) => Reply::Refuse(486),
            (_, _, true) => Reply::Ring,
            _ => Reply::Answer,
        };
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        let local = self.listen.unwrap_or_else(|| {
            let here = matches!(host, "127.0.0.1" | "localhost");
            SocketAddr::from((if here { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED }, 0))
        });
        let account = Account {
            domain: self.domain.clone().unwrap_or_else(|| host.to_owned()),
            server: self.server.clone(),
            transport: if self.tcp { Transport::Tcp } else { Transport::Udp },
            username: self.user.clone(),
            password: self.password,
            display: None,
            expires: Duration::from_mins(10),
        };
        let Span(answer_after) = self.answer_after;
        let script = Script {
            reply,
            answer_after,
            hangup_after: self.hangup_after.map(|Span(after)| after),
            say: self.say,
            dtmf: self.dtmf,
            codecs: self.codecs,
            ..Script::default()
        };
        let bank = BankConfig {
            local,
            tell_levels: !self.hear.is_empty(),
            hear: self.hear,
            record: self.record,
            trace: self.trace,
            ..BankConfig::default()
        };
        let mut stop = std::pin::pin!(asked_to_stop());
        let line = Line { name: self.user, place: Place::Registered(account), script };
        let name = line.name.clone();
        let bank = PhoneBank::start(bank).await.context("the phone cannot start")?;
        let mut events = bank.subscribe();
        if let Some(failed) = bank.set(vec![line]).await.pop() {
            anyhow::bail!("{failed}");
        }
        let mut dial = self.dial;
        let mut refused = false;
        loop {
            let event = tokio::select! {
                _ = &mut stop => break,
                event = events.next() => match event {
                    Some(event) => event,
                    None => break,
                },
            };
            println!("{}", serde_json::to_string(&*event)?);
            match &event.what {
                Happening::Registered { .. } => {
                    if let Some(to) = dial.take() {
                        bank.dial(&name, &to).await?;
                    }
                }
                Happening::RegisterFailed { .. } => {
                    refused = true;
                    break;
                }
                _ => {}
            }
        }
        bank.shut_down(FAREWELL).await;
        Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
