//! An HTTP client that sends a URL byte for byte as it was given: bots route on the query of their callback URI.
//!
//! It follows no redirects by itself, keeps connections for a while, and speaks HTTP/1.1 over TCP or TLS. It looks names
//! up and connects to no address that `address` bars.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::address::{self, Barred};
use crate::certs;
use crate::config::Network;

pub(super) type HttpClient = Client<Connector, Full<Bytes>>;

/// Shorter than the minute after which servers commonly close idle connections.
const IDLE_FOR: std::time::Duration = std::time::Duration::from_secs(45);

/// `at_once` requests go to one webhook at the same time. As many connections to it are kept while nothing is sent: with
/// fewer, a busy webhook would be connected to again and again.
pub(super) fn client(
    roots: RootCertStore,
    at_once: usize,
    networks: Vec<Network>,
) -> Result<HttpClient, rustls::Error> {
    let tls = ClientConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = Connector {
        tls: TlsConnector::from(Arc::new(tls)),
        networks: networks.into(),
        lookup: Arc::new(|host, port| Box::pin(look_up(host, port))),
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(at_once)
        .build(connector))
}

#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    networks: Arc<[Network]>,
    lookup: Lookup,
}

/// What a host and port stand for at this moment.
type Lookup = Arc<dyn Fn(String, u16) -> Pending<io::Result<Vec<SocketAddr>>> + Send + Sync>;

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Barred(#[from] Barred),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Connector {
    /// To one of the addresses that the host stands for: judged here, and not looked up again.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let mut barred = None;
        let mut open = Vec::new();
        for address in (self.lookup)(host.to_owned(), port).await? {
            match address::judge(host, address.ip(), &self.networks) {
                Ok(()) => open.push(address),
                Err(why) => barred = Some(why),
            }
        }
        match barred {
            Some(barred) if open.is_empty() => Err(barred.into()),
            _ => Ok(TcpStream::connect(open.as_slice()).await?),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pending<Result<Stream, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| io::Error::other("the callback has no host"))?;
            let host = host.trim_matches(['[', ']']).to_owned();
            let secure = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let stream = connector.connect(&host, port).await?;
            stream.set_nodelay(true)?;
            if !secure {
                return Ok(Stream::Plain(TokioIo::new(stream)));
            }
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            Ok(Stream::Tls(Box::new(TokioIo::new(connector.tls.connect(name, stream).await?))))
        })
    }
}

/// TCP, with or without TLS.
pub(super) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    /// A connector for which every name means these addresses, looked up and counted.
    fn connector(answers: &[SocketAddr], networks: &[&str]) -> (Connector, Arc<AtomicU32>) {
        let tls = ClientConfig::builder_with_provider(certs::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let (answers, asked) = (answers.to_vec(), Arc::new(AtomicU32::new(0)));
        let lookup: Lookup = Arc::new({
            let asked = Arc::clone(&asked);
            move |_, _| {
                asked.fetch_add(1, Ordering::Relaxed);
                let answers = answers.clone();
                Box::pin(async move { Ok(answers) })
            }
        });
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        (Connector { tls: TlsConnector::from(Arc::new(tls)), networks, lookup }, asked)
    }

    #[tokio::test]
    async fn a_name_that_has_come_to_mean_this_machine_is_not_connected_to() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let here = listener.local_addr().unwrap();
        let (mut rebound, _) = connector(&[here], &[]);
        let uri = format!("http://bot.example:{}/", here.port());
        let refused = rebound.call(uri.parse().unwrap()).await;
        assert!(matches!(refused, Err(ConnectError::Barred(_))));
        // What was judged is what is connected to: the name is asked for once.
        let (mut allowed, asked) = connector(&[here], &["127.0.0.0/8"]);
        assert!(allowed.call(uri.parse().unwrap()).await.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let (_, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().is_loopback());
        assert!(futures_util::poll!(std::pin::pin!(listener.accept())).is_pending(), "the first never came");
    }

    #[tokio::test]
    async fn of_several_addresses_only_those_that_may_be_are_tried() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let here = listener.local_addr().unwrap();
        let metadata = SocketAddr::from((Ipv4Addr::new(169, 254, 169, 254), here.port()));
        let (mut mixed, _) = connector(&[metadata, here], &["127.0.0.1"]);
        assert!(mixed.call("http://bot.example/".parse().unwrap()).await.is_ok());
        let (mut only, _) = connector(&[metadata], &["127.0.0.1"]);
        assert!(matches!(only.call("http://bot.example/".parse().unwrap()).await, Err(ConnectError::Barred(_))));
        let (mut none, _) = connector(&[], &[]);
        assert!(matches!(none.call("http://bot.example/".parse().unwrap()).await, Err(ConnectError::Failed(_))));
    }
}
