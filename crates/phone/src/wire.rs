//! The sockets of a station: one UDP port, a TCP listener beside it, and connections. No decisions.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Duration;

use sip::agent::{ConnectId, Flow, QueryId};
use sip::locate::{Answer, Question, RecordKind};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

/// The flow of the UDP socket.
pub(crate) const UDP: Flow = Flow(0);
/// The flow of the TCP listener.
pub(crate) const TCP: Flow = Flow(1);

/// Something came in, or an errand is done.
#[derive(Debug)]
pub(crate) enum Arrival {
    Accepted(TcpStream),
    Connected { connect: ConnectId, stream: TcpStream },
    ConnectFailed { connect: ConnectId },
    Bytes { flow: Flow, source: SocketAddr, local: SocketAddr, bytes: Vec<u8> },
    Closed { flow: Flow },
    LookedUp { query: QueryId, answer: Answer },
}

/// The sockets.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) udp: UdpSocket,
    pub(crate) local: SocketAddr,
    /// Whether TCP is listened for too.
    pub(crate) has_listener: bool,
    streams: BTreeMap<Flow, mpsc::Sender<Vec<u8>>>,
    next_flow: u64,
    arrivals: mpsc::Sender<Arrival>,
}

/// Arrivals that wait for the station; readers of connections wait when it is full.
const ARRIVALS_MAX: usize = 1024;
/// Messages that wait for a slow peer; its connection is given up when there are more.
const WRITES_MAX: usize = 256;
/// Connections at one time.
const STREAMS_MAX: usize = 1024;
/// Several hundred calls may be placed to a load bank within one turn of its station.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams that arrive while a host name is looked up, or a connection made, must not wait for it.
const ERRANDS_WITHIN: Duration = Duration::from_secs(10);

impl Wire {
    pub(crate) fn open(bind: SocketAddr) -> io::Result<(Self, mpsc::Receiver<Arrival>)> {
        let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
        // The system may grant less; then it is less.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&bind.into())?;
        let udp = UdpSocket::from_std(socket.into())?;
        let local = udp.local_addr()?;
        let (arrivals, receiver) = mpsc::channel(ARRIVALS_MAX);
        let wire = Self { udp, local, has_listener: false, streams: BTreeMap::new(), next_flow: TCP.0 + 1, arrivals };
        Ok((wire, receiver))
    }

    /// Listens for TCP at the same port, if nobody else does: those who call by UDP have no need of it.
    pub(crate) async fn listen(&mut self) {
        match TcpListener::bind(self.local).await {
            Ok(listener) => {
                self.has_listener = true;
                tokio::spawn(accept(listener, self.arrivals.clone()));
            }
            Err(error) => tracing::debug!(address = %self.local, %error, "the phone does not listen for TCP"),
        }
    }

    /// Takes a connection into use. None: there are too many, and it is closed.
    pub(crate) fn adopt(&mut self, stream: TcpStream) -> Option<(Flow, SocketAddr, SocketAddr)> {
        if self.streams.len() >= STREAMS_MAX {
            return None;
        }
        let (local, remote) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
        let _ = stream.set_nodelay(true);
        let flow = Flow(self.next_flow);
        self.next_flow += 1;
        let (reader, writer) = stream.into_split();
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        self.streams.insert(flow, writes);
        tokio::spawn(read(reader, flow, remote, local, self.arrivals.clone()));
        tokio::spawn(write(writer, queue));
        Some((flow, local, remote))
    }

    pub(crate) async fn transmit(&mut self, flow: Flow, destination: SocketAddr, bytes: Vec<u8>) {
        if flow == UDP {
            // A datagram that the network does not take is lost like any other, and repeated by the agent.
            if let Err(error) = self.udp.send_to(&bytes, destination).await {
                tracing::debug!(%destination, %error, "a datagram was not sent");
            }
        } else if let Some(writes) = self.streams.get(&flow)
            && writes.try_send(bytes).is_err()
        {
            self.streams.remove(&flow);
        }
    }

    pub(crate) fn connect(&self, connect: ConnectId, destination: SocketAddr) {
        let arrivals = self.arrivals.clone();
        tokio::spawn(async move {
            let arrival = match tokio::time::timeout(ERRANDS_WITHIN, TcpStream::connect(destination)).await {
                Ok(Ok(stream)) => Arrival::Connected { connect, stream },
                Ok(Err(_)) | Err(_) => Arrival::ConnectFailed { connect },
            };
            let _ = arrivals.send(arrival).await;
        });
    }

    /// Closes a connection: its writer ends, and its reader with the peer's end.
    pub(crate) fn close(&mut self, flow: Flow) {
        self.streams.remove(&flow);
    }

    /// A softphone knows the system's addresses, and no services.
    pub(crate) fn look_up(&self, query: QueryId, question: Question) {
        let arrivals = self.arrivals.clone();
        let wants_ipv4 = self.local.is_ipv4();
        tokio::spawn(async move {
            let found = match question.kind {
                RecordKind::Address => addresses_of(&question.name, SIP_PORT).await,
                RecordKind::Naptr | RecordKind::Srv => Vec::new(),
            };
            let fitting = found.into_iter().map(|address| address.ip()).filter(|ip| ip.is_ipv4() == wants_ipv4);
            let answer = Answer::addresses(fitting, ANSWERS_FOR);
            let _ = arrivals.send(Arrival::LookedUp { query, answer }).await;
        });
    }
}

/// How long the system's answers are believed: it does not say.
const ANSWERS_FOR: Duration = Duration::from_secs(10);

/// RFC 3261 §19.1.2.
pub(crate) const SIP_PORT: u16 = 5060;

/// The addresses of a host name, or of an address as text; none if it has none.
pub(crate) async fn addresses_of(host: &str, port: u16) -> Vec<SocketAddr> {
    let lookup = tokio::net::lookup_host((host.trim_start_matches('[').trim_end_matches(']'), port));
    match tokio::time::timeout(ERRANDS_WITHIN, lookup).await {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Our address as a peer sees it: the one from which the system would send to it.
pub(crate) fn address_towards(peer: IpAddr) -> Option<IpAddr> {
    let unspecified: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a UDP socket chooses a route and sends nothing.
    let socket = StdUdpSocket::bind((unspecified, 0)).ok()?;
    socket.connect((peer, SIP_PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

async fn accept(listener: TcpListener, arrivals: mpsc::Sender<Arrival>) {
    loop {
        tokio::select! {
            () = arrivals.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if arrivals.send(Arrival::Accepted(stream)).await.is_err() {
                        return;
                    }
                }
                // Out of descriptors: connections that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

async fn read(
    mut reader: OwnedReadHalf,
    flow: Flow,
    source: SocketAddr,
    local: SocketAddr,
    arrivals: mpsc::Sender<Arrival>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = tokio::select! {
            () = arrivals.closed() => return,
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            },
        };
        let bytes = buffer[..length].to_vec();
        if arrivals.send(Arrival::Bytes { flow, source, local, bytes }).await.is_err() {
            return;
        }
    }
    let _ = arrivals.send(Arrival::Closed { flow }).await;
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}
