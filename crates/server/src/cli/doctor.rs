//! `convoke doctor`: finds what keeps a server from working, and says what to do.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use store::sqlite::{self, Examined};
use store::{Directory, StoreError, Trunk};
use time::OffsetDateTime;

use super::{Ended, Sources, open_store};
use crate::auth::fresh_id;
use crate::certs::{self, RENEW_BEFORE};
use crate::config::Config;
use crate::directory::file::trunk_address;
use crate::{boot, hook};

/// Looks for problems of ports, certificates, the database, trunks and the machine, and says what to do
///
/// Works whether the server runs or not. Exit code 0 if nothing is wrong, else 1.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  convoke doctor --config /etc/convoke.toml --data /var/lib/convoke")]
pub(super) struct Doctor {
    #[command(flatten)]
    sources: Sources,
}

/// One thing looked at.
struct Finding {
    what: String,
    result: Result<String, Problem>,
}

struct Problem {
    wrong: String,
    advice: String,
}

/// How long a trunk or a running server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Enough for some hundred calls.
const DESCRIPTORS_MIN: u64 = 4096;

/// Room for an hour of calls, and for an operator to notice.
const DISK_FREE_MIN: u64 = 256 << 20;

/// No clock that is right shows an earlier time: 2026-01-01.
const CLOCK_MIN_S: u64 = 1_767_225_600;

impl Doctor {
    pub(super) async fn run(self) -> Ended {
        let loaded = match self.sources.load(Vec::new()) {
            Ok(loaded) => loaded,
            Err(error) => {
                report(&[bad("configuration", error.to_string(), "correct it; see docs/configuration.md")]);
                return Ok(ExitCode::FAILURE);
            }
        };
        let config = loaded.config;
        let mut findings =
            vec![good("configuration", format!("{} settings differ from the defaults", loaded.origins.len()))];
        findings.extend(loaded.warnings.into_iter().map(|warning| bad("configuration", warning, "remove it")));
        findings.push(clock());
        findings.push(descriptors());
        let data = data_directory(&config.data);
        let usable = data.result.is_ok();
        findings.push(data);
        let running = serves(&config).await;
        match &running {
            Some(url) => findings.push(good("server", format!("answers at {url}; its ports are not tried"))),
            None => findings.extend(ports(&config)),
        }
        if usable {
            findings.push(certificate(&config));
            let (database, readable) = database(&config.data).await;
            findings.extend(database);
            if readable {
                findings.extend(directory(&config).await);
            }
        }
        let wrong = report(&findings);
        Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn good(what: &str, said: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), result: Ok(said.into()) }
}

fn bad(what: &str, wrong: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), result: Err(Problem { wrong: wrong.into(), advice: advice.into() }) }
}

/// Prints the findings; how many problems there are.
fn report(findings: &[Finding]) -> usize {
    for finding in findings {
        match &finding.result {
            Ok(said) => println!("ok     {:22} {said}", finding.what),
            Err(problem) => {
                println!("WRONG  {:22} {}\n       {:22} → {}", finding.what, problem.wrong, "", problem.advice);
            }
        }
    }
    findings.iter().filter(|finding| finding.result.is_err()).count()
}

fn clock() -> Finding {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < CLOCK_MIN_S {
        bad("clock", "shows a time long gone: tokens and certificates will be refused", "set the clock, and run NTP")
    } else {
        good("clock", OffsetDateTime::now_utc().date().to_string())
    }
}

fn descriptors() -> Finding {
    match rlimit::Resource::NOFILE.get() {
        Ok((_, hard)) if hard < DESCRIPTORS_MIN => bad(
            "file descriptors",
            format!("the hard limit is {hard}; a call takes about four"),
            "raise it: LimitNOFILE=65536 in the systemd unit, or `ulimit -Hn 65536`",
        ),
        Ok((_, hard)) => good("file descriptors", format!("up to {hard}")),
        Err(error) => bad("file descriptors", error.to_string(), "look at `ulimit -Hn`"),
    }
}

/// Looked at without making it: a doctor changes nothing that was not there.
fn data_directory(data: &Path) -> Finding {
    let shown = data.display();
    let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let tried = if data.exists() { data } else { parent };
    let probe = tried.join(format!(".convoke-doctor-{}", fresh_id().simple()));
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) if data.exists() => good("data directory", format!("{shown} can be written")),
        Ok(()) => good("data directory", format!("{shown} is made at the first start")),
        Err(error) => bad(
            "data directory",
            format!("{} cannot be written: {error}", tried.display()),
            "give the server's user the right to write there, or name another directory with --data",
        ),
    }
}

/// The URL of a server of ours that answers where the configuration says.
async fn serves(config: &Config) -> Option<String> {
    let ca = config.data.join("ca.pem");
    let roots = certs::roots(None, ca.exists().then_some(ca.as_path())).ok()?;
    let client = hook::http_client(roots).ok()?;
    let url = format!("https://localhost:{}", config.http.listen.port());
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.get(format!("{url}/health/live")).send()).await;
    answer.ok()?.ok()?.status().is_success().then_some(url)
}

fn ports(config: &Config) -> Vec<Finding> {
    let tcp = |what: &str, address: SocketAddr| match std::net::TcpListener::bind(address) {
        Ok(_) => good(what, format!("TCP {address} is free")),
        Err(error) => {
            bad(what, format!("TCP {address}: {error}"), "stop who uses it (`ss -ltnp`), or choose another port")
        }
    };
    let mut findings = vec![tcp("HTTPS port", config.http.listen)];
    if config.dev {
        findings.push(tcp("plain HTTP port", config.http.plain_listen));
    }
    findings.push(tcp("SIP port", config.sip.tcp_listen));
    findings.push(match UdpSocket::bind(config.sip.udp_listen) {
        Ok(_) => good("SIP port", format!("UDP {} is free", config.sip.udp_listen)),
        Err(error) => bad(
            "SIP port",
            format!("UDP {}: {error}", config.sip.udp_listen),
            "stop who uses it (`ss -lunp`), or set sip.udp_listen",
        ),
    });
    let range = config.rtp.ports.first..=config.rtp.ports.last;
    let total = range.clone().count();
    // A sample over the whole range: others who use it are seldom spread thin.
    let step = (total / 100).max(1);
    let (mut tried, mut taken) = (0, 0);
    for port in range.step_by(step) {
        tried += 1;
        taken += usize::from(UdpSocket::bind((config.sip.udp_listen.ip(), port)).is_err());
    }
    findings.push(if taken * 10 > tried {
        bad(
            "audio ports",
            format!("{taken} of {tried} ports tried in {} are taken", config.rtp.ports),
            "choose another range with rtp.ports",
        )
    } else {
        good("audio ports", format!("UDP {}", config.rtp.ports))
    });
    findings
}

fn certificate(config: &Config) -> Finding {
    let own = config.http.certificate.is_none();
    let path = config.http.certificate.clone().unwrap_or_else(|| config.data.join("server.pem"));
    if own && !path.exists() {
        return good("certificate", "is made at the first start");
    }
    if let (Some(certificate), Some(key)) = (&config.http.certificate, &config.http.key)
        && let Err(error) = certs::load(certificate, key)
    {
        return bad("certificate", error.to_string(), "correct http.certificate and http.key");
    }
    let found = std::fs::read(&path).map_err(|error| error.to_string());
    let inspected = found.and_then(|pem| certs::inspect(&pem, &path).map_err(|error| error.to_string()));
    let advice = if own { "restart the server: it renews its own certificate" } else { "renew http.certificate" };
    match inspected {
        Err(error) => bad("certificate", format!("{}: {error}", path.display()), advice),
        Ok(found) => {
            let now = OffsetDateTime::now_utc();
            let wanted = if own { boot::certificate_names(config) } else { base_host(config).into_iter().collect() };
            // A wildcard covers one label.
            let covered = |name: &String| {
                let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
                found.names.contains(name) || wildcard.is_some_and(|wildcard| found.names.contains(&wildcard))
            };
            let missing: Vec<_> = wanted.iter().filter(|name| !covered(name)).cloned().collect();
            if found.until <= now {
                bad("certificate", format!("has expired on {}", found.until.date()), advice)
            } else if found.from > now {
                bad("certificate", format!("is valid from {}", found.from.date()), "look at the clock")
            } else if found.until - RENEW_BEFORE <= now {
                bad("certificate", format!("expires on {}", found.until.date()), advice)
            } else if missing.is_empty() {
                good("certificate", format!("until {}", found.until.date()))
            } else {
                bad("certificate", format!("does not name {}", missing.join(", ")), advice)
            }
        }
    }
}

fn base_host(config: &Config) -> Option<String> {
    let uri: http::Uri = config.http.base_url.as_ref()?.parse().ok()?;
    uri.host().map(str::to_ascii_lowercase)
}

/// The database and the room it has, and whether it can be read further. Nothing is written.
async fn database(data: &Path) -> (Vec<Finding>, bool) {
    let examined = {
        let data = data.to_owned();
        tokio::task::spawn_blocking(move || sqlite::examine(&data)).await
    };
    let mut needed = 0;
    let mut readable = false;
    let finding = match examined {
        Err(error) => bad("database", error.to_string(), "run this again"),
        Ok(Err(error @ StoreError::Schema { .. })) => {
            bad("database", error.to_string(), "see \"Upgrade\" in docs/operating.md")
        }
        Ok(Err(error)) => bad("database", error.to_string(), RESTORE),
        Ok(Ok(None)) => {
            readable = true;
            good("database", "is made at the first start")
        }
        Ok(Ok(Some(found))) => {
            needed = found.bytes + found.log_bytes;
            readable = found.damages.is_empty() && found.current;
            match found.damages.first() {
                Some(first) => bad("database", format!("is damaged: {first}"), RESTORE),
                None => good("database", told(&found)),
            }
        }
    };
    (vec![finding, disk(data, needed)], readable)
}

const RESTORE: &str = "stop the server, keep a copy of the data directory, then `convoke restore FILE --force`";

fn told(found: &Examined) -> String {
    format!(
        "is sound: schema {}{}, {} of which {} are free, log {}; {} conferences, {} notifications owed, {} given up",
        found.schema,
        if found.current { "" } else { " (the next start brings it up to date)" },
        mebibytes(found.bytes),
        mebibytes(found.free_bytes),
        mebibytes(found.log_bytes),
        found.conferences,
        found.owed,
        found.given_up
    )
}

/// A migration keeps a copy of the database, and needs room of its own.
fn disk(data: &Path, database: u64) -> Finding {
    let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = if data.exists() { data } else { parent };
    match rustix::fs::statvfs(place) {
        Err(error) => bad("disk", format!("{}: {error}", place.display()), "look at the file system"),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            if free < DISK_FREE_MIN.max(database.saturating_mul(2)) {
                bad(
                    "disk",
                    format!("{} are free, the database takes {}", mebibytes(free), mebibytes(database)),
                    "make room: a full disk refuses calls, and an upgrade needs twice the database",
                )
            } else {
                good("disk", format!("{} are free", mebibytes(free)))
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

async fn directory(config: &Config) -> Vec<Finding> {
    if !config.data.join(sqlite::DATABASE).exists() {
        return vec![good("directory", "is empty: `convoke directory apply FILE` fills it")];
    }
    let directory = match open_store(&config.data) {
        Ok(store) => match store.directory().await {
            Ok(directory) => directory,
            Err(error) => return vec![bad("database", error.to_string(), RESTORE)],
        },
        Err(error) => return vec![bad("database", error.to_string(), "look at the rights of the data directory")],
    };
    let mut findings = vec![good("directory", counted(&directory))];
    for app in directory.apps() {
        let what = format!("app {}", app.name);
        if app.secret_hash.is_none() {
            findings.push(bad(
                &what,
                "has no secret: it gets no tokens",
                format!("convoke app set {} --secret …", app.id),
            ));
        }
        let plain = app.callback.as_deref().is_some_and(|url| url.starts_with("http:"));
        if plain && !config.dev {
            findings.push(bad(
                &what,
                "its callback is plain http, which only `dev` allows",
                "use https, or set dev = true",
            ));
        }
    }
    for trunk in directory.trunks() {
        findings.push(trunk_answers(trunk).await);
    }
    findings
}

fn counted(directory: &Directory) -> String {
    format!(
        "{} tenants, {} applications, {} users, {} trunks",
        directory.tenants().count(),
        directory.apps().count(),
        directory.users().count(),
        directory.trunks().count()
    )
}

/// Asks a trunk by OPTIONS over UDP whether it is there. Any answer will do.
async fn trunk_answers(trunk: &Trunk) -> Finding {
    let what = format!("trunk {}", trunk.name);
    if trunk.line.is_some() {
        return good(&what, "is played by a test line");
    }
    if trunk.uri.to_ascii_lowercase().contains("transport=tcp") {
        return good(&what, "speaks TCP; not tried");
    }
    let Some(address) = resolve(&trunk.uri).await else {
        return bad(&what, format!("{} has no address", trunk.uri), "correct its uri, or look at the DNS");
    };
    match options(address, &trunk.uri).await {
        Ok(Some(status)) => good(&what, format!("{address} answers: {status}")),
        Ok(None) => bad(
            &what,
            format!("{address} does not answer OPTIONS within {} s", ANSWER_WITHIN.as_secs()),
            "look at firewalls, and whether the carrier knows this machine's address",
        ),
        Err(error) => bad(&what, format!("{address}: {error}"), "look at the network"),
    }
}

async fn resolve(uri: &str) -> Option<SocketAddr> {
    if let Some(address) = trunk_address(uri) {
        return Some(address);
    }
    let host = uri.strip_prefix("sip:")?.split([';', '?']).next()?;
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5060") };
    tokio::net::lookup_host(host).await.ok()?.next()
}

/// The status line of the answer, if one comes.
async fn options(address: SocketAddr, uri: &str) -> std::io::Result<Option<String>> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    let (local, mark) = (socket.local_addr()?, fresh_id().simple());
    let request = format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{mark};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:doctor@{local}>;tag={mark}\r\nTo: <{uri}>\r\nCall-ID: {mark}\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:doctor@{local}>\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = async {
        let mut buffer = [0; 4096];
        // RFC 3261 §17.1.2: UDP loses packets, so it is asked again.
        for pause in [Duration::from_millis(500), ANSWER_WITHIN] {
            socket.send(request.as_bytes()).await?;
            if let Ok(received) = tokio::time::timeout(pause, socket.recv(&mut buffer)).await {
                let text = String::from_utf8_lossy(&buffer[..received?]).into_owned();
                return Ok(text.lines().next().map(str::to_owned));
            }
        }
        Ok(None)
    };
    answer.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trunk_that_answers_is_told_from_one_that_does_not() {
        let carrier = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = carrier.local_addr().unwrap();
        let asked = tokio::spawn(async move { options(address, "sip:127.0.0.1").await });
        let mut buffer = [0; 4096];
        let (length, from) = carrier.recv_from(&mut buffer).await.unwrap();
        assert!(buffer[..length].starts_with(b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n"));
        carrier.send_to(b"SIP/2.0 405 Method Not Allowed\r\n\r\n", from).await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap().as_deref(), Some("SIP/2.0 405 Method Not Allowed"));
    }

    #[test]
    fn a_directory_nobody_may_write_is_found_out() {
        let finding = data_directory(Path::new("/proc/convoke"));
        assert!(finding.result.is_err());
        let folder = tempfile::tempdir().unwrap();
        assert!(data_directory(&folder.path().join("new")).result.is_ok());
        assert!(!folder.path().join("new").exists(), "nothing was made");
    }
}
