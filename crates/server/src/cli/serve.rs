//! `convoke serve`: the server.

use std::process::ExitCode;

use clap::Args;

use super::{Ended, Sources, Stop, asked_to_stop, flag};
use crate::{boot, telemetry};

/// Runs the server until Ctrl-C
///
/// HTTPS on 8443 with a certificate of its own authority (DIR/ca.pem is the one to trust), SIP on 5060 over UDP and TCP,
/// audio on UDP 20000-29999. Ctrl-C drains: no new calls, polite farewells, notifications delivered. A second Ctrl-C
/// ends it at once. A server that dies, or hands over, takes its calls up again when it is started within seconds.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke serve --data /var/lib/convoke\n  \
    convoke serve --config convoke.toml --log json\n  \
    convoke serve --hand-over\n  \
    convoke serve --dev --set http.listen=127.0.0.1:0 --trace-sip")]
pub(super) struct Serve {
    #[command(flatten)]
    sources: Sources,
    /// A developer's conveniences: plain HTTP on this machine, plain-http callbacks to it
    #[arg(long)]
    dev: bool,
    /// SIGTERM leaves calls up for the next process, which takes them up
    #[arg(long)]
    hand_over: bool,
    /// Logs every SIP message, credentials masked
    #[arg(long)]
    trace_sip: bool,
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT")]
    log: Option<String>,
    /// `error`, `warn`, `info`, `debug` or `trace`, or per module
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Serve {
    pub(super) async fn run(self) -> Ended {
        let mut flags = Vec::new();
        if self.dev {
            flags.push(flag("--dev", "dev", "true"));
        }
        if self.hand_over {
            flags.push(flag("--hand-over", "hand_over", "true"));
        }
        if self.trace_sip {
            flags.push(flag("--trace-sip", "sip.trace", "true"));
        }
        flags.extend(self.log.map(|format| flag("--log", "log.format", format)));
        flags.extend(self.log_level.map(|level| flag("--log-level", "log.level", level)));
        let loaded = self.sources.load(flags)?;
        telemetry::log(&loaded.config.log)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        // Asked for before anything starts, so that a hurried Ctrl-C is not lost.
        let mut stop = std::pin::pin!(asked_to_stop());
        let server = tokio::select! {
            started = boot::start(&loaded.config) => started?,
            _ = &mut stop => return Ok(ExitCode::SUCCESS),
        };
        tracing::info!(
            https = %server.https,
            http = server.http.map(tracing::field::display),
            sip_udp = ?server.sip.udp,
            sip_tcp = ?server.sip.tcp,
            ca = %server.authority.path().display(),
            "serving {}",
            server.base_url
        );
        let died = server.died.clone();
        let (code, how) = tokio::select! {
            how = stop => (ExitCode::SUCCESS, how),
            () = died.cancelled() => (ExitCode::FAILURE, Stop::Interrupted),
        };
        if loaded.config.hand_over && how == Stop::Terminated {
            server.hand_over().await;
            return Ok(code);
        }
        tokio::select! {
            () = server.drain() => Ok(code),
            _ = asked_to_stop() => {
                tracing::warn!("stopped at once; what is left ends at the next start");
                Ok(ExitCode::from(130))
            }
        }
    }
}
