//! Asks DNS what the agent wants to know: NAPTR, SRV, A and AAAA. What the answers mean is the agent's business.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use sip::locate::{Answer, Naptr, Question, Record, RecordKind, Srv};
use tokio::sync::{OnceCell, Semaphore};

/// Looks names up, a bounded number at once.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    /// The DNS server to ask; the system's if none is named.
    server: Option<SocketAddr>,
    inner: Arc<OnceCell<Option<TokioResolver>>>,
    permits: Arc<Semaphore>,
}

/// Look-ups at one time; more wait.
const LOOKUPS_MAX: usize = 64;

/// How long a DNS server is waited for; it is asked once more after that.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long "there is none" holds where the server does not say.
const NOTHING_FOR: Duration = Duration::from_secs(30);

impl Resolver {
    pub(crate) fn new(server: Option<SocketAddr>) -> Self {
        Self { server, inner: Arc::new(OnceCell::new()), permits: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The answer of DNS, or of the system's table of hosts.
    pub(crate) async fn look_up(&self, question: &Question) -> Answer {
        if let Ok(ip) = question.name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Answer::addresses([ip], NOTHING_FOR);
        }
        let Ok(_permit) = self.permits.acquire().await else { return Answer::failed() };
        let resolver = self.inner.get_or_init(|| async { build(self.server) }).await;
        let Some(resolver) = resolver else { return Answer::failed() };
        let asked = match question.kind {
            RecordKind::Address => addresses(resolver, &question.name).await,
            RecordKind::Srv => records(resolver, &question.name, RecordType::SRV).await,
            RecordKind::Naptr => records(resolver, &question.name, RecordType::NAPTR).await,
        };
        match asked {
            Ok(answer) => answer,
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let said = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
                Answer::nothing(said.unwrap_or(NOTHING_FOR))
            }
            Err(error) => {
                tracing::warn!(name = question.name, kind = ?question.kind, %error, "a look-up failed");
                Answer::failed()
            }
        }
    }
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Answer, NetError> {
    let found = resolver.lookup_ip(name).await?;
    Ok(Answer::addresses(found.iter(), left(found.valid_until())))
}

async fn records(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Answer, NetError> {
    // Whole names: the system's search list is for hosts.
    let found = resolver.lookup(format!("{name}."), kind).await?;
    let records = found.answers().iter().filter_map(|record| read(&record.data)).collect();
    Ok(Answer { records, ttl: left(found.valid_until()) })
}

fn read(data: &RData) -> Option<Record> {
    match data {
        RData::SRV(srv) => Some(Record::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: text(&srv.target),
        })),
        RData::NAPTR(naptr) => Some(Record::Naptr(Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
            service: String::from_utf8_lossy(&naptr.services).into_owned(),
            regexp: String::from_utf8_lossy(&naptr.regexp).into_owned(),
            replacement: text(&naptr.replacement),
        })),
        _ => None,
    }
}

/// In lower case and without the dot at the end; empty for the root.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn build(server: Option<SocketAddr>) -> Option<TokioResolver> {
    let builder = match server {
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let mut named = NameServerConfig::udp_and_tcp(server.ip());
            named.connections = connections.to_vec();
            let config = ResolverConfig::from_name_servers(vec![named]);
            Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        }
        None => TokioResolver::builder_tokio(),
    };
    let built = builder.and_then(|mut builder| {
        let options = builder.options_mut();
        options.timeout = ANSWER_WITHIN;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // The agent remembers, for as long as it wants to.
        options.cache_size = 0;
        ResolverBuilder::build(builder)
    });
    built.inspect_err(|error| tracing::error!(%error, "no DNS: host names of trunks cannot be resolved")).ok()
}
