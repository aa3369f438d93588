//! Host names to addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::{ResolverBuilder, TokioResolver};
use sip::agent::Transport;
use tokio::sync::{OnceCell, Semaphore};

/// Looks names up, a bounded number at once, by the system's resolver configuration.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    inner: Arc<OnceCell<Option<TokioResolver>>>,
    permits: Arc<Semaphore>,
}

/// Look-ups at one time; more wait.
const LOOKUPS_MAX: usize = 64;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

impl Resolver {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(OnceCell::new()), permits: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The addresses of a host, best first; none if it has none or cannot be looked up.
    pub(crate) async fn look_up(
        &self,
        host: &str,
        port: Option<u16>,
        _transport: Option<Transport>,
    ) -> Vec<SocketAddr> {
        let port = port.unwrap_or(DEFAULT_PORT);
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return vec![SocketAddr::new(ip, port)];
        }
        let Ok(_permit) = self.permits.acquire().await else { return Vec::new() };
        let resolver = self.inner.get_or_init(|| async { build() }).await;
        let Some(resolver) = resolver else { return Vec::new() };
        match resolver.lookup_ip(host).await {
            Ok(found) => found.iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect(),
            Err(error) => {
                tracing::debug!(host, %error, "look-up failed");
                Vec::new()
            }
        }
    }
}

/// RFC 3261 §19.1.2, for UDP and TCP.
const DEFAULT_PORT: u16 = 5060;

fn build() -> Option<TokioResolver> {
    let built = TokioResolver::builder_tokio().and_then(ResolverBuilder::build);
    built.inspect_err(|error| tracing::error!(%error, "no DNS: host names of trunks cannot be resolved")).ok()
}
