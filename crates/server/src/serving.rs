//! HTTP on a listener: HTTP/1.1 and HTTP/2, over TLS or plain, bounded in connections and patience.

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

/// How a listener is served.
#[derive(Clone, Debug)]
pub struct Serving {
    pub router: Router,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// For TLS, for the headers of a request, and for an idle connection.
    pub patience: Duration,
    /// Shared by all listeners: connections beyond wait to be accepted.
    pub connections: Arc<Semaphore>,
}

/// What one HTTP/2 connection may ask at once.
const STREAMS_MAX: u32 = 256;

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
            accepted = accept(&listener, &serving.connections) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let (serving, watcher, stop) = (serving.clone(), graceful.watcher(), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match serving.tls.clone() {
                None => converse(serving, stream, peer, watcher).await,
                Some(tls) => {
                    let shaken = tokio::select! {
                        () = stop.cancelled() => return,
                        shaken = tokio::time::timeout(serving.patience, TlsAcceptor::from(tls).accept(stream)) => shaken,
                    };
                    match shaken {
                        Ok(Ok(stream)) => converse(serving, stream, peer, watcher).await,
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

async fn converse<S>(serving: Serving, stream: S, peer: SocketAddr, watcher: hyper_util::server::graceful::Watcher)
where
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
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(serving.patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(serving.patience)
        .keep_alive_timeout(serving.patience)
        .max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "an HTTP connection ended");
    }
}
