//! Flows: which sockets and connections there are, and how a hop becomes a flow and a destination.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::vocabulary::{ConnectId, Flow, Hint, QueryId, Transport};
use crate::message::{Host, Scheme, StreamParser, Uri};

/// A connection or a look-up that is not there by then is given up.
pub(super) const REACH_WITHIN: Duration = Duration::from_secs(10);

/// Most addresses of one name that are tried.
pub(super) const ADDRESSES_MAX: usize = 8;

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

/// What a hop comes to without asking anybody.
#[derive(Debug)]
pub(super) enum Destinations {
    Known(VecDeque<(Transport, SocketAddr)>),
    Ask {
        host: String,
        port: Option<u16>,
        transport: Option<Transport>,
    },
    /// A URI that leads nowhere: another scheme, or a transport we do not have.
    Nowhere,
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
    connecting: BTreeMap<ConnectId, Connecting>,
    queries: BTreeMap<QueryId, Instant>,
    last_number: u64,
}

impl Network {
    pub(super) fn listen(&mut self, flow: Flow, transport: Transport, local: SocketAddr, advertised: SocketAddr) {
        self.listeners.insert(flow, Listener { transport, local, advertised });
    }

    /// Makes a connection known, or notes that it was heard. `false` if there are too many.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        flow: Flow,
        (local, remote): (SocketAddr, SocketAddr),
        max: usize,
    ) -> bool {
        if let Some(stream) = self.streams.get_mut(&flow) {
            stream.heard_at = now;
            return true;
        }
        if self.streams.len() >= max {
            return false;
        }
        let transport = Transport::Tcp;
        let stream = Stream { transport, local, remote, parser: StreamParser::new(), heard_at: now };
        self.streams.insert(flow, stream);
        self.by_remote.insert((transport, remote), flow);
        true
    }

    pub(super) fn close(&mut self, flow: Flow) -> Option<Stream> {
        let stream = self.streams.remove(&flow)?;
        if self.by_remote.get(&(stream.transport, stream.remote)) == Some(&flow) {
            self.by_remote.remove(&(stream.transport, stream.remote));
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

    pub(super) fn destinations(&self, hop: &Hop) -> Destinations {
        if let Some(hint) = hop.hint {
            let is_gone = match (hint.transport, hint.flow) {
                (Transport::Tcp, Some(flow)) => !self.streams.contains_key(&flow),
                (Transport::Tcp, None) | (Transport::Udp, _) => false,
            };
            if !is_gone {
                let mut known = VecDeque::from([(hint.transport, hint.destination)]);
                // An earlier process had the connection. Where the peer opened it, nobody listens at that end, but perhaps
                // at its Contact.
                if hint.transport.is_reliable()
                    && hint.flow.is_none()
                    && let Destinations::Known(stated) = Self::stated(&hop.uri)
                {
                    known.extend(stated);
                }
                return Destinations::Known(known);
            }
        }
        Self::stated(&hop.uri)
    }

    /// Where a URI says by itself.
    fn stated(uri: &Uri) -> Destinations {
        // `sips` asks for TLS on every hop; without TLS it leads nowhere, rather than in the clear.
        if uri.scheme != Scheme::Sip {
            return Destinations::Nowhere;
        }
        let transport = match uri.transport_param() {
            Some(name) => match Transport::from_name(&name) {
                Some(transport) => Some(transport),
                None => return Destinations::Nowhere,
            },
            None => None,
        };
        match &uri.host {
            Host::Ip(ip) => {
                let destination = SocketAddr::new(*ip, uri.port.unwrap_or(5060));
                Destinations::Known(VecDeque::from([(transport.unwrap_or(Transport::Udp), destination)]))
            }
            Host::Domain(name) => Destinations::Ask { host: name.clone(), port: uri.port, transport },
        }
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
            return Reach::Now(Way { flow, transport, destination, advertised: advertised.unwrap_or(own) });
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
        self.queries.insert(query, now + REACH_WITHIN);
        (query, now + REACH_WITHIN)
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
