//! The network: datagrams that are lost, late, doubled or overtaken, and phones that cannot be reached for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use switch::bare::{Channel, Machine, RtpSockets, Wire};

use crate::chance::Chance;

/// A datagram under way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// How the network is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_permille: u64,
    pub(crate) double_permille: u64,
    pub(crate) delay_ms: (u64, u64),
    /// Whom nothing reaches, and from whom nothing comes.
    pub(crate) cut_off: BTreeSet<IpAddr>,
}

impl Default for Weather {
    fn default() -> Self {
        Self { loss_permille: 0, double_permille: 0, delay_ms: (1, 3), cut_off: BTreeSet::new() }
    }
}

impl Weather {
    /// After how many milliseconds each copy of a datagram arrives; none if it is lost.
    pub(crate) fn carries(&self, chance: &mut Chance, datagram: &Datagram) -> Vec<u64> {
        let mut arrivals = Vec::new();
        let cut_off = self.cut_off.contains(&datagram.from.ip()) || self.cut_off.contains(&datagram.to.ip());
        if cut_off || chance.permille(self.loss_permille) {
            return arrivals;
        }
        arrivals.push(chance.between(self.delay_ms.0, self.delay_ms.1));
        if chance.permille(self.double_permille) {
            arrivals.push(chance.between(self.delay_ms.0, self.delay_ms.1));
        }
        arrivals
    }
}

/// A datagram, and where it came from.
type Came = (SocketAddr, Vec<u8>);

/// RTP between one process of the server and everybody: what has come for its ports, and what they have sent.
#[derive(Debug, Default)]
pub(crate) struct Ether {
    bound: BTreeSet<u16>,
    next: u16,
    /// By port, and whether it is that of RTCP.
    arrived: BTreeMap<(u16, bool), VecDeque<Came>>,
    pub(crate) sent: Vec<Datagram>,
}

/// The server's machine, as one process sees it.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) ip: IpAddr,
    pub(crate) ether: Arc<Mutex<Ether>>,
}

#[derive(Debug)]
struct Pair {
    host: Host,
    port: u16,
}

/// The server's first RTP port, and how many pairs it has.
const FIRST_PORT: u16 = 20_000;
const PAIRS: u16 = 500;

impl Host {
    pub(crate) fn new(ip: IpAddr) -> Self {
        Self { ip, ether: Arc::default() }
    }

    pub(crate) fn ether(&self) -> MutexGuard<'_, Ether> {
        self.ether.lock().expect("nothing falls while it carries")
    }

    /// Something has come for one of our ports.
    pub(crate) fn arrives(&self, datagram: Datagram) {
        let (port, control) = (datagram.to.port() & !1, datagram.to.port() % 2 == 1);
        let mut ether = self.ether();
        if ether.bound.contains(&port) {
            ether.arrived.entry((port, control)).or_default().push_back((datagram.from, datagram.bytes));
        }
    }

    pub(crate) fn bound(&self) -> usize {
        self.ether().bound.len()
    }
}

impl Machine for Host {
    fn bind(&mut self) -> io::Result<RtpSockets> {
        let mut ether = self.ether();
        for _ in 0..PAIRS {
            let port = FIRST_PORT + 2 * ether.next;
            ether.next = (ether.next + 1) % PAIRS;
            if ether.bound.insert(port) {
                drop(ether);
                return Ok(RtpSockets { wire: Box::new(Pair { host: self.clone(), port }), port });
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn bind_again(&mut self, port: u16) -> io::Result<RtpSockets> {
        if !self.ether().bound.insert(port) {
            return self.bind();
        }
        Ok(RtpSockets { wire: Box::new(Pair { host: self.clone(), port }), port })
    }

    fn has(&self, address: IpAddr) -> bool {
        address == self.ip
    }

    fn route_to(&self, _peer: IpAddr) -> Option<IpAddr> {
        Some(self.ip)
    }

    fn default_route(&self) -> IpAddr {
        self.ip
    }
}

impl Wire for Pair {
    fn receive(&self, channel: Channel, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut ether = self.host.ether();
        let (source, bytes) = ether.arrived.get_mut(&(self.port, channel == Channel::Rtcp))?.pop_front()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Some((length, source))
    }

    fn send(&self, channel: Channel, packet: &[u8], to: SocketAddr) {
        let port = self.port + u16::from(channel == Channel::Rtcp);
        let from = SocketAddr::new(self.host.ip, port);
        self.host.ether().sent.push(Datagram { from, to, bytes: packet.to_vec() });
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let mut ether = self.host.ether();
        ether.bound.remove(&self.port);
        ether.arrived.remove(&(self.port, false));
        ether.arrived.remove(&(self.port, true));
    }
}
