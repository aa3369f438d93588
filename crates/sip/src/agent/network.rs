//! Flows: which sockets and connections there are, and how a hop becomes a flow and a destination.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::guarding::neighbourhood;
use super::limits::{LOOKUP_WITHIN, SHUN_FOR_MAX, SHUNNED_MAX, UNFINISHED_BYTES_MAX};
use super::vocabulary::{ConnectId, Flow, Hint, QueryId, Transport};
use crate::locate::Walk;
use crate::message::{StreamParser, Uri};

/// A connection that is not there by then is given up.
pub(super) const REACH_WITHIN: Duration = Duration::from_secs(10);

/// Where a request is to go next.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) uri: Uri,
    /// Goes before the URI, if it can be used.
    pub(super) hint: Option<Hint>,
    /// What our Via says where it differs from the flow's own address.
    pub(super) advertised: Option<SocketAddr>,
}

/// How a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) flow: Flow,
    pub(super) transport: Transport,
    pub(super) destination: SocketAddr,
    /// For Via and Contact.
    pub(super) advertised: SocketAddr,
}

/// How to reach one address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    Now(Way),
    /// A connection has to be made, or is being made.
    Soon(ConnectId),
    Never,
}

#[derive(Debug)]
struct Listener {
    transport: Transport,
    local: SocketAddr,
    advertised: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) transport: Transport,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) parser: StreamParser,
    pub(super) heard_at: Instant,
    opened: Opened,
    /// Since when a message is begun, or the first one waited for.
    pub(super) owes_since: Option<Instant>,
    pub(super) unreadable: u32,
    /// Bytes of the message that is begun.
    unfinished: usize,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    ByUs,
    ByPeer,
}

#[derive(Debug)]
struct Connecting {
    transport: Transport,
    destination: SocketAddr,
    until: Instant,
    is_asked: bool,
}

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Network {
    listeners: BTreeMap<Flow, Listener>,
    pub(super) streams: BTreeMap<Flow, Stream>,
    by_remote: BTreeMap<(Transport, SocketAddr), Flow>,
    /// Connections that peers have opened, by their address.
    accepted: BTreeMap<IpAddr, usize>,
    unfinished: usize,
    connecting: BTreeMap<ConnectId, Connecting>,
    queries: BTreeMap<QueryId, Instant>,
    /// Addresses that were silent or overloaded, and until when they are tried last.
    shunned: BTreeMap<(Transport, SocketAddr), Instant>,
    last_number: u64,
}

impl Network {
    pub(super) fn listen(&mut self, flow: Flow, transport: Transport, local: SocketAddr, advertised: SocketAddr) {
        self.listeners.insert(flow, Listener { transport, local, advertised });
    }

    /// Makes a connection known.
    pub(super) fn add(&mut self, now: Instant, flow: Flow, (local, remote): (SocketAddr, SocketAddr), opened: Opened) {
        let owes_since = match opened {
            Opened::ByUs => None,
            Opened::ByPeer => {
                *self.accepted.entry(neighbourhood(remote.ip())).or_default() += 1;
                Some(now)
            }
        };
        let stream = Stream {
            transport: Transport::Tcp,
            local,
            remote,
            parser: StreamParser::new(),
            heard_at: now,
            opened,
            owes_since,
            unreadable: 0,
            unfinished: 0,
        };
        self.by_remote.insert((stream.transport, remote), flow);
        self.streams.insert(flow, stream);
    }

    /// How many connections came from an address.
    pub(super) fn accepted_from(&self, ip: IpAddr) -> usize {
        self.accepted.get(&neighbourhood(ip)).copied().unwrap_or(0)
    }

    /// The connection that was silent for longest, of those that a peer has opened and that may be let go: of all, or of
    /// those from one address.
    pub(super) fn idlest(&self, from: Option<IpAddr>, is_used: impl Fn(Flow) -> bool) -> Option<Flow> {
        let from = from.map(neighbourhood);
        let fits = |stream: &Stream| {
            stream.opened == Opened::ByPeer && from.is_none_or(|from| neighbourhood(stream.remote.ip()) == from)
        };
        let candidates = self.streams.iter().filter(|(flow, stream)| fits(stream) && !is_used(**flow));
        candidates.min_by_key(|(_, stream)| stream.heard_at).map(|(flow, _)| *flow)
    }

    /// The connections that peers have opened and that hold the beginning of a message, those that have held it for
    /// longest first, but for those that may not be let go.
    pub(super) fn tardiest(&self, is_used: impl Fn(Flow) -> bool) -> Vec<Flow> {
        let fits = |stream: &Stream| stream.opened == Opened::ByPeer && stream.unfinished > 0;
        let mut tardy: Vec<_> = self.streams.iter().filter(|(flow, stream)| fits(stream) && !is_used(**flow)).collect();
        tardy.sort_by_key(|(_, stream)| stream.owes_since);
        tardy.into_iter().map(|(flow, _)| *flow).collect()
    }

    /// Notes how many bytes of a message that has begun a connection holds.
    pub(super) fn holds(&mut self, flow: Flow) {
        let Some(stream) = self.streams.get_mut(&flow) else { return };
        self.unfinished -= stream.unfinished;
        stream.unfinished = stream.parser.waiting();
        self.unfinished += stream.unfinished;
    }

    /// Whether what all connections hold of messages that have begun is not too much.
    pub(super) fn fits(&self) -> bool {
        self.unfinished <= UNFINISHED_BYTES_MAX
    }

    pub(super) fn close(&mut self, flow: Flow) -> Option<Stream> {
        let stream = self.streams.remove(&flow)?;
        if self.by_remote.get(&(stream.transport, stream.remote)) == Some(&flow) {
            self.by_remote.remove(&(stream.transport, stream.remote));
        }
        self.unfinished -= stream.unfinished;
        let from = neighbourhood(stream.remote.ip());
        if stream.opened == Opened::ByPeer
            && let Some(count) = self.accepted.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.accepted.remove(&from);
            }
        }
        Some(stream)
    }

    /// The transport of a flow, if it exists.
    pub(super) fn transport(&self, flow: Flow) -> Option<Transport> {
        let listener = self.listeners.get(&flow).map(|listener| listener.transport);
        listener.or_else(|| self.streams.get(&flow).map(|stream| stream.transport))
    }

    /// What Via and Contact say on this flow.
    pub(super) fn advertised(&self, flow: Flow) -> Option<SocketAddr> {
        if let Some(listener) = self.listeners.get(&flow) {
            return Some(listener.advertised);
        }
        let stream = self.streams.get(&flow)?;
        let same = self.listeners.values().find(|listener| {
            listener.transport == stream.transport && listener.advertised.is_ipv4() == stream.local.is_ipv4()
        });
        Some(same.map_or(stream.local, |listener| listener.advertised))
    }

    /// The way to a hop: by its hint if that can be used, else where the URI leads.
    pub(super) fn walk(&self, hop: &Hop, seed: u64) -> Walk {
        let usable = hop.hint.filter(|hint| match (hint.transport, hint.flow) {
            (Transport::Tcp, Some(flow)) => self.streams.contains_key(&flow),
            (Transport::Tcp, None) | (Transport::Udp, _) => true,
        });
        match usable {
            // An earlier process had the connection. Where the peer opened it, nobody listens at that end, but perhaps at
            // its Contact.
            Some(hint) if hint.transport.is_reliable() && hint.flow.is_none() => {
                let mut walk = Walk::to(&hop.uri, seed);
                walk.again(hint.transport, hint.destination);
                walk
            }
            Some(hint) => Walk::straight(hint.transport, hint.destination),
            None => Walk::to(&hop.uri, seed),
        }
    }

    /// Puts an address behind all others for a while: it was silent, cannot be connected to, or says that it is full.
    pub(super) fn shun(&mut self, now: Instant, target: (Transport, SocketAddr), time: Duration) {
        self.shunned.retain(|_, until| *until > now);
        if self.shunned.len() < SHUNNED_MAX {
            self.shunned.insert(target, now + time.min(SHUN_FOR_MAX));
        }
    }

    /// An address that answers is as good as any.
    pub(super) fn forgive(&mut self, target: (Transport, SocketAddr)) {
        self.shunned.remove(&target);
    }

    pub(super) fn is_shunned(&self, now: Instant, target: (Transport, SocketAddr)) -> bool {
        self.shunned.get(&target).is_some_and(|until| *until > now)
    }

    /// How to reach an address; `preferred` is a flow to use if it still leads there.
    pub(super) fn reach(
        &mut self,
        now: Instant,
        (transport, destination): (Transport, SocketAddr),
        preferred: Option<Flow>,
        advertised: Option<SocketAddr>,
    ) -> Reach {
        let flow = match transport {
            Transport::Udp => preferred
                .filter(|flow| self.listeners.get(flow).is_some_and(|listener| listener.fits(destination)))
                .or_else(|| self.best_listener(destination)),
            Transport::Tcp => preferred
                .filter(|flow| self.streams.get(flow).is_some_and(|stream| stream.remote == destination))
                .or_else(|| self.by_remote.get(&(transport, destination)).copied()),
        };
        if let Some(flow) = flow {
            let own = self.advertised(flow).expect("the flow was just found");
            let advertised = advertised.map_or(own, |said| SocketAddr::new(said.ip(), own.port()));
            return Reach::Now(Way { flow, transport, destination, advertised });
        }
        if !transport.is_reliable() {
            return Reach::Never;
        }
        let known =
            self.connecting.iter().find(|(_, one)| (one.transport, one.destination) == (transport, destination));
        if let Some((&connect, _)) = known {
            return Reach::Soon(connect);
        }
        let connect = ConnectId(self.number());
        let until = now + REACH_WITHIN;
        self.connecting.insert(connect, Connecting { transport, destination, until, is_asked: false });
        Reach::Soon(connect)
    }

    /// A connection that the shell has to be asked for, once.
    pub(super) fn ask_connect(&mut self, connect: ConnectId) -> Option<(Transport, SocketAddr, Instant)> {
        let one = self.connecting.get_mut(&connect).filter(|one| !one.is_asked)?;
        one.is_asked = true;
        Some((one.transport, one.destination, one.until))
    }

    /// A connection stands, or will not.
    pub(super) fn connected(&mut self, connect: ConnectId) -> Option<(Transport, SocketAddr)> {
        self.connecting.remove(&connect).map(|one| (one.transport, one.destination))
    }

    pub(super) fn query(&mut self, now: Instant) -> (QueryId, Instant) {
        let query = QueryId(self.number());
        self.queries.insert(query, now + LOOKUP_WITHIN);
        (query, now + LOOKUP_WITHIN)
    }

    /// A look-up is answered, or given up.
    pub(super) fn answered(&mut self, query: QueryId) -> bool {
        self.queries.remove(&query).is_some()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.connecting.is_empty() && self.queries.is_empty()
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A UDP socket of the destination's family; for loopback one that is bound there, if there is one, and otherwise
    /// one that is not.
    fn best_listener(&self, destination: SocketAddr) -> Option<Flow> {
        let rank = |listener: &Listener| {
            let ip = listener.local.ip();
            if ip == destination.ip() {
                0
            } else if ip.is_unspecified() {
                1
            } else {
                2 + u8::from(ip.is_loopback() != destination.ip().is_loopback())
            }
        };
        let fitting = self.listeners.iter().filter(|(_, listener)| listener.fits(destination));
        fitting.min_by_key(|(_, listener)| rank(listener)).map(|(&flow, _)| flow)
    }
}

impl Listener {
    fn fits(&self, destination: SocketAddr) -> bool {
        let is_dual = self.local.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        !self.transport.is_reliable() && (is_dual || self.local.is_ipv4() == destination.is_ipv4())
    }
}
