//! Every way in and out for SIP: UDP sockets, TCP listeners and connections, look-ups.
//!
//! A [`Flow`] numbers each of them. TLS and WebSocket join as further kinds of stream: the agent sees only bytes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use sip::agent::{ConnectId, Flow, QueryId, Transport};
use sip::locate::{Answer, Question};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::resolve::Resolver;
use super::streams::{Reader, Stream};
use crate::operator::Listening;
use crate::{SipConfig, StartError};

/// What came in. A datagram's bytes are in the transports' buffer until the next call.
#[derive(Debug)]
pub(crate) enum Happened {
    Datagram { flow: Flow, source: SocketAddr, length: usize },
    Opened { flow: Flow, stream: Stream, local: SocketAddr },
    Stream { flow: Flow, source: SocketAddr, local: SocketAddr, bytes: Bytes },
    StreamClosed { flow: Flow },
    Connected { connect: ConnectId, flow: Flow, stream: Stream, local: SocketAddr },
    ConnectFailed { connect: ConnectId },
    LookedUp { query: QueryId, answer: Answer },
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Transports {
    udp: Vec<(Flow, UdpSocket)>,
    /// Which UDP socket is read first next time, so that none starves.
    turn: usize,
    /// Whether streams and errands were heard last: then datagrams come first. Neither can starve the other.
    streams_had_a_turn: bool,
    streams: BTreeMap<Flow, Stream>,
    listening: Vec<Listening>,
    flows: Arc<AtomicU64>,
    happened: mpsc::Sender<Happened>,
    happenings: mpsc::Receiver<Happened>,
    resolver: Resolver,
    buffer: Box<[u8]>,
    _accepting: Vec<AbortOnDropHandle<()>>,
}

/// Things that happened on streams and wait for the operator; readers wait when it is full.
const HAPPENED_MAX: usize = 1_024;

/// The largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A peer that does not accept a connection by then is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The agent's own bound on streams is lower; this one keeps descriptors for everything else.
const STREAMS_MAX: usize = 20_000;

/// Room for a burst of INVITEs or REGISTERs while the operator is busy.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

impl Transports {
    pub(crate) fn bind(config: &SipConfig) -> Result<Self, StartError> {
        let (happened, happenings) = mpsc::channel(HAPPENED_MAX);
        let flows = Arc::new(AtomicU64::new(1));
        let mut udp = Vec::new();
        let mut listening = Vec::new();
        let mut accepting = Vec::new();
        for &address in &config.udp {
            let refused = |source| StartError::Listen { transport: "UDP", address, source };
            let socket = bind_udp(address).map_err(refused)?;
            let flow = next(&flows);
            let local = socket.local_addr().map_err(refused)?;
            listening.push(Listening { flow, transport: Transport::Udp, local });
            udp.push((flow, socket));
        }
        let Some(first_port) = listening.first().map(|udp| udp.local.port()) else {
            return Err(StartError::NoListener);
        };
        for &address in &config.tcp {
            let refused = |source| StartError::Listen { transport: "TCP", address, source };
            let listener = bind_tcp(address, first_port).map_err(refused)?;
            let flow = next(&flows);
            let local = listener.local_addr().map_err(refused)?;
            listening.push(Listening { flow, transport: Transport::Tcp, local });
            let task = tokio::spawn(accept(listener, Arc::clone(&flows), happened.clone()));
            accepting.push(AbortOnDropHandle::new(task));
        }
        Ok(Self {
            udp,
            turn: 0,
            streams_had_a_turn: false,
            streams: BTreeMap::new(),
            listening,
            flows,
            happened,
            happenings,
            resolver: Resolver::new(config.resolver),
            buffer: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice(),
            _accepting: accepting,
        })
    }

    pub(crate) fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The next thing that happens. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Happened {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The bytes of the datagram that was told last.
    pub(crate) fn datagram(&self, length: usize) -> &[u8] {
        &self.buffer[..length]
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Happened> {
        if !std::mem::replace(&mut self.streams_had_a_turn, true)
            && let Poll::Ready(Some(happened)) = self.happenings.poll_recv(context)
        {
            return Poll::Ready(happened);
        }
        if let Poll::Ready(happened) = self.poll_datagram(context) {
            self.streams_had_a_turn = false;
            return Poll::Ready(happened);
        }
        match self.happenings.poll_recv(context) {
            Poll::Ready(Some(happened)) => Poll::Ready(happened),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_datagram(&mut self, context: &mut Context<'_>) -> Poll<Happened> {
        for offset in 0..self.udp.len() {
            let index = (self.turn + offset) % self.udp.len();
            let (flow, socket) = &self.udp[index];
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match socket.poll_recv_from(context, &mut buffer) {
                Poll::Ready(Ok(source)) => {
                    self.turn = index + 1;
                    let length = buffer.filled().len();
                    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
                    return Poll::Ready(Happened::Datagram { flow: *flow, source, length });
                }
                // An ICMP answer to something we sent: nobody is there, and timers notice.
                Poll::Ready(Err(_)) => context.waker().wake_by_ref(),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Takes a stream that was opened.
    pub(crate) fn keep(&mut self, flow: Flow, stream: Stream) {
        // One too many is dropped, and thereby closed.
        if self.streams.len() < STREAMS_MAX {
            self.streams.insert(flow, stream);
        }
    }

    /// Sends a message. False: the flow is a stream that is gone or does not keep up; it is closed.
    pub(crate) fn send(&mut self, flow: Flow, destination: SocketAddr, bytes: Vec<u8>) -> bool {
        if let Some((_, socket)) = self.udp.iter().find(|(udp, _)| *udp == flow) {
            // A datagram that the kernel does not take now is lost, as on any network: SIP sends it again.
            let destination = reachable(socket, destination);
            if let Err(error) = socket.try_send_to(&bytes, destination) {
                tracing::debug!(%destination, %error, "a datagram was not sent");
            }
            return true;
        }
        let sent = self.streams.get(&flow).is_some_and(|stream| stream.send(bytes));
        if !sent && let Some(stream) = self.streams.remove(&flow) {
            tracing::warn!(peer = %stream.peer, "a connection does not keep up and is closed");
        }
        sent
    }

    pub(crate) fn close(&mut self, flow: Flow) {
        self.streams.remove(&flow);
    }

    /// Opens a connection; answered by [`Happened::Connected`] or [`Happened::ConnectFailed`].
    pub(crate) fn connect(&self, connect: ConnectId, transport: Transport, destination: SocketAddr) {
        let (happened, flow) = (self.happened.clone(), next(&self.flows));
        tokio::spawn(async move {
            let outcome = match transport {
                Transport::Tcp => open(flow, destination, happened.clone()).await,
                Transport::Udp => Err(io::Error::from(io::ErrorKind::Unsupported)),
            };
            match outcome {
                Ok((stream, reader)) => {
                    let local = reader.local;
                    let _ = happened.send(Happened::Connected { connect, flow, stream, local }).await;
                    reader.begin();
                }
                Err(error) => {
                    tracing::debug!(%destination, %error, "no connection");
                    let _ = happened.send(Happened::ConnectFailed { connect }).await;
                }
            }
        });
    }

    /// Asks DNS; answered by [`Happened::LookedUp`].
    pub(crate) fn look_up(&self, query: QueryId, question: Question) {
        let (happened, resolver) = (self.happened.clone(), self.resolver.clone());
        tokio::spawn(async move {
            let answer = resolver.look_up(&question).await;
            let _ = happened.send(Happened::LookedUp { query, answer }).await;
        });
    }
}

/// An IPv6 socket reaches an IPv4 peer by its mapped address.
fn reachable(socket: &UdpSocket, destination: SocketAddr) -> SocketAddr {
    match destination {
        SocketAddr::V4(v4) if socket.local_addr().is_ok_and(|local| local.is_ipv6()) => {
            SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => destination,
    }
}

fn next(flows: &AtomicU64) -> Flow {
    Flow(flows.fetch_add(1, Ordering::Relaxed))
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // A smaller buffer than wished for is no reason not to start.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER_BYTES);
    UdpSocket::from_std(socket)
}

/// With port 0 the port of the first UDP socket, if it is free: phones then need to be told only one.
fn bind_tcp(address: SocketAddr, first_port: u16) -> io::Result<TcpListener> {
    let listener = match address.port() {
        0 => std::net::TcpListener::bind((address.ip(), first_port)).or_else(|_| std::net::TcpListener::bind(address)),
        _ => std::net::TcpListener::bind(address),
    }?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept(listener: TcpListener, flows: Arc<AtomicU64>, happened: mpsc::Sender<Happened>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let flow = next(&flows);
                let Ok((stream, reader)) = Stream::new(flow, stream, happened.clone()) else { continue };
                let local = reader.local;
                if happened.send(Happened::Opened { flow, stream, local }).await.is_err() {
                    return;
                }
                reader.begin();
            }
            Err(error) => {
                // Out of descriptors, most likely: those that exist go on, and some will end.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn open(flow: Flow, destination: SocketAddr, happened: mpsc::Sender<Happened>) -> io::Result<(Stream, Reader)> {
    let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(destination)).await??;
    Stream::new(flow, stream, happened)
}
