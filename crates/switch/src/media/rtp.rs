//! One leg's way to the network, and the one peer it listens to.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// A bound pair: RTP on an even port, RTCP on the next one (RFC 3550 §11).
#[derive(Debug)]
pub struct RtpSockets {
    pub wire: Box<dyn Wire>,
    /// That of RTP.
    pub port: u16,
}

/// The one of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Rtp,
    Rtcp,
}

/// What carries a leg's packets. Nothing here waits.
pub trait Wire: Send + fmt::Debug {
    /// The next datagram that has come, and its source; `None` when there is none. What does not fit is cut.
    fn receive(&self, channel: Channel, buffer: &mut [u8]) -> Option<(usize, SocketAddr)>;

    /// Sends a datagram. One that is not taken now is lost, as on any network.
    fn send(&self, channel: Channel, packet: &[u8], to: SocketAddr);
}

/// Two UDP sockets.
#[derive(Debug)]
struct UdpPair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    is_ipv6: bool,
}

/// Hands out pairs of ports, round and round, so that a port rests before it is used again.
#[derive(Debug)]
pub(crate) struct PortRange {
    bind: IpAddr,
    first: u16,
    pairs: u16,
    next: u16,
}

impl PortRange {
    /// `None` if the range holds no pair. `start` is any number: where in the range to begin.
    pub(crate) fn new(bind: IpAddr, ports: &RangeInclusive<u16>, start: u16) -> Option<Self> {
        let first = ports.start().checked_add(ports.start() % 2)?;
        let pairs = (u32::from(*ports.end()) + 1).checked_sub(u32::from(first))? / 2;
        let pairs = u16::try_from(pairs).ok().filter(|pairs| *pairs > 0)?;
        Some(Self { bind, first, pairs, next: start % pairs })
    }

    /// Binds the next free pair. Fails when the whole range is in use, or with the first other error.
    pub(crate) fn bind(&mut self) -> io::Result<RtpSockets> {
        for _ in 0..self.pairs {
            let port = self.first + 2 * self.next;
            self.next = (self.next + 1) % self.pairs;
            match self.bind_at(port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "every RTP port of the range is in use"))
    }

    /// Binds this pair, which a process before us had, or the next free one.
    pub(crate) fn bind_again(&mut self, port: u16) -> io::Result<RtpSockets> {
        let offset = port.checked_sub(self.first).filter(|offset| offset % 2 == 0 && offset / 2 < self.pairs);
        match offset.map(|_| self.bind_at(port)) {
            Some(Ok(sockets)) => Ok(sockets),
            Some(Err(_)) | None => self.bind(),
        }
    }

    fn bind_at(&self, port: u16) -> io::Result<RtpSockets> {
        let rtp = bind(SocketAddr::new(self.bind, port))?;
        let rtcp = bind(SocketAddr::new(self.bind, port + 1))?;
        Ok(RtpSockets { wire: Box::new(UdpPair { rtp, rtcp, is_ipv6: self.bind.is_ipv6() }), port })
    }
}

impl UdpPair {
    fn socket(&self, channel: Channel) -> &UdpSocket {
        match channel {
            Channel::Rtp => &self.rtp,
            Channel::Rtcp => &self.rtcp,
        }
    }
}

impl Wire for UdpPair {
    fn receive(&self, channel: Channel, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (length, source) = self.socket(channel).recv_from(buffer).ok()?;
        // An IPv4 peer of a dual-stack socket, by its IPv4 address.
        Some((length, SocketAddr::new(source.ip().to_canonical(), source.port())))
    }

    fn send(&self, channel: Channel, packet: &[u8], to: SocketAddr) {
        // An IPv6 socket reaches an IPv4 peer by its mapped address.
        let to = match to {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        };
        let _ = self.socket(channel).send_to(packet, to);
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Room for a second of late packets; the kernel doubles it for its own bookkeeping.
const RECEIVE_BUFFER_BYTES: usize = 32 * 1024;

/// The far end of one socket: symmetric RTP, within limits.
///
/// Only the address that the peer's SDP names and the address its signalling came from may send to us, each from any
/// port: a NAT rewrites ports. The first accepted packet latches; another source is then taken only after the first
/// has been silent for a while, or if it is exactly what the SDP names: the phone may still send what belongs to a call that
/// we have forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// As the SDP says. `None` while the peer wants nothing sent (`c=0.0.0.0`).
    said: Option<SocketAddr>,
    signalling: IpAddr,
    latched: Option<(SocketAddr, Instant)>,
}

impl Peer {
    pub(crate) fn new(said: Option<SocketAddr>, signalling: IpAddr) -> Self {
        Self { said, signalling: signalling.to_canonical(), latched: None }
    }

    /// The peer has said another address, or the same again: then the latch stays.
    pub(crate) fn rename(&mut self, said: Option<SocketAddr>) {
        if said.is_some() && said != self.said {
            self.latched = None;
        }
        self.said = said;
    }

    /// Whether a packet from there is listened to.
    pub(crate) fn admits(&self, now: Instant, source: SocketAddr) -> bool {
        if let Some((latched, heard_at)) = self.latched {
            if latched == source || self.is_said(source) {
                return true;
            }
            if now.saturating_duration_since(heard_at) < RELATCH_AFTER {
                return false;
            }
        }
        let ip = source.ip();
        ip == self.signalling || self.said.is_some_and(|said| said.ip() == ip)
    }

    /// Whether it is exactly what the SDP names.
    pub(crate) fn is_said(&self, source: SocketAddr) -> bool {
        self.said == Some(source)
    }

    /// A packet from there was good.
    pub(crate) fn accepted(&mut self, now: Instant, source: SocketAddr) {
        self.latched = Some((source, now));
    }

    /// Where to send.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        let said = self.said?;
        Some(self.latched.map_or(said, |(latched, _)| latched))
    }
}

/// A source that has said nothing for so long may be replaced by another one.
const RELATCH_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_the_address_of_the_sdp_or_of_the_signalling_latches_and_the_former_goes_before() {
        let now = Instant::now();
        let mut peer = Peer::new(Some(at("10.0.0.7:4000")), at("192.0.2.1:5060").ip());
        assert!(!peer.admits(now, at("198.51.100.1:4000")));
        assert!(peer.admits(now, at("10.0.0.7:4002")));
        assert!(peer.admits(now, at("192.0.2.1:61000")));
        assert_eq!(peer.destination(), Some(at("10.0.0.7:4000")));
        peer.accepted(now, at("192.0.2.1:61000"));
        assert_eq!(peer.destination(), Some(at("192.0.2.1:61000")));
        assert!(!peer.admits(now, at("10.0.0.7:4002")));
        assert!(peer.admits(now + RELATCH_AFTER, at("10.0.0.7:4002")));
        assert!(!peer.admits(now + RELATCH_AFTER, at("198.51.100.1:4000")));
        // What the SDP names is right, whoever was sooner.
        assert!(peer.admits(now, at("10.0.0.7:4000")));
        peer.accepted(now, at("10.0.0.7:4000"));
        assert!(!peer.admits(now, at("192.0.2.1:61000")));
    }

    #[test]
    fn a_peer_that_wants_nothing_is_sent_nothing() {
        let now = Instant::now();
        let mut peer = Peer::new(Some(at("10.0.0.7:4000")), at("10.0.0.7:5060").ip());
        peer.accepted(now, at("10.0.0.7:4000"));
        peer.rename(None);
        assert_eq!(peer.destination(), None);
        peer.rename(Some(at("10.0.0.8:4000")));
        assert_eq!(peer.destination(), Some(at("10.0.0.8:4000")));
    }

    #[test]
    fn pairs_are_even_and_the_range_is_a_bound() {
        let loopback = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        assert!(PortRange::new(loopback, &(9..=10), 0).is_none());
        let mut range = PortRange::new(loopback, &(41_001..=41_006), 1).expect("two pairs");
        let (one, two) = (range.bind().expect("free"), range.bind().expect("free"));
        assert_eq!((one.port, two.port), (41_004, 41_002));
        assert!(range.bind().is_err());
        drop(one);
        assert_eq!(range.bind().expect("free again").port, 41_004);
        assert_eq!(range.bind_again(41_004).expect("the one that was asked for").port, 41_004);
        drop(two);
        let one = range.bind_again(41_004).expect("free");
        assert_eq!(range.bind_again(41_004).expect("another one").port, 41_002);
        drop(one);
        assert_ne!(range.bind_again(9_000).expect("one of the range").port, 9_000);
    }
}
