//! HTTP on a listener: HTTP/1.1 and HTTP/2 over TLS, HTTP/1.1 plain; bounded in connections, headers and patience.

mod crowd;
mod patient;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::Network;
use crate::limits::{HEADERS_COUNT_MAX, HEADERS_MAX, STREAMS_MAX};
use crate::source::Source;
use crowd::Crowd;
use patient::{Greeted, Patient};

/// How a listener is served.
#[derive(Clone, Debug)]
pub struct Serving {
    pub router: Router,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// For TLS, for the headers of a request, for an idle connection, and for a peer that does not take its answer.
    pub patience: Duration,
    pub places: Places,
}

/// The connections there may be, on all listeners that share it.
#[derive(Clone, Debug)]
pub struct Places {
    /// Connections beyond wait to be accepted.
    all: Arc<Semaphore>,
    /// Connections of one source beyond are closed.
    crowd: Crowd,
    /// They speak for many, and are not bounded like one.
    proxies: Vec<Network>,
}

impl Places {
    pub fn new(all_max: usize, each_max: u32, proxies: Vec<Network>) -> Self {
        Self { all: Arc::new(Semaphore::new(all_max)), crowd: Crowd::new(each_max), proxies }
    }
}

/// After the operating system refused a connection, for want of file descriptors as a rule.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// After `stop`, answers under way have this long.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Serves until `stop`; then finishes what was begun and returns.
pub async fn serve(listener: TcpListener, serving: Serving, stop: CancellationToken) {
    let graceful = Arc::new(GracefulShutdown::new());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &serving.places.all) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let proxy = serving.places.proxies.iter().any(|proxies| proxies.contains(peer.ip()));
        let seat = if proxy { None } else { serving.places.crowd.seat(Source::of(peer.ip())) };
        if seat.is_none() && !proxy {
            metrics::counter!("convoke_http_connections_refused_total").increment(1);
            tracing::debug!(%peer, "a connection too many from one source");
            continue;
        }
        let (serving, watcher, stop) = (serving.clone(), graceful.watcher(), stop.clone());
        tasks.spawn(async move {
            let _held = (permit, seat);
            let _ = stream.set_nodelay(true);
            let stream = Patient::new(stream, serving.patience);
            match serving.tls.clone() {
                None => converse(serving, stream, peer, Protocol::Http1, watcher).await,
                Some(tls) => {
                    let shaken = tokio::select! {
                        () = stop.cancelled() => return,
                        shaken = tokio::time::timeout(serving.patience, TlsAcceptor::from(tls).accept(stream)) => shaken,
                    };
                    match shaken {
                        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                            let stream = Greeted::within(serving.patience, stream);
                            converse(serving, stream, peer, Protocol::Http2, watcher).await;
                        }
                        Ok(Ok(stream)) => converse(serving, stream, peer, Protocol::Http1, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                        Err(_) => tracing::debug!(%peer, "no TLS in time"),
                    }
                }
            }
        });
    }
    drop(listener);
    tasks.close();
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await;
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// Agreed on before the first byte: finding it out from what comes would wait for ever for those who send nothing.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

async fn converse<S>(
    serving: Serving,
    stream: S,
    peer: SocketAddr,
    protocol: Protocol,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = serving.router;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move {
            let Ok(response) = router.oneshot(request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.patience)
        .max_buf_size(HEADERS_MAX)
        .max_headers(HEADERS_COUNT_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(serving.patience)
        .keep_alive_timeout(serving.patience)
        .max_header_list_size(u32::try_from(HEADERS_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "an HTTP connection ended");
    }
}
