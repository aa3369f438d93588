//! Connections: whose bytes are read, for how long, and who makes room for whom.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::limits::{MESSAGE_WITHIN, UNREADABLE_MAX};
use super::network::Opened;
use super::vocabulary::{Flow, Output};
use super::{Agent, Due, Leg};
use crate::message::StreamItem;

impl Agent {
    pub(super) fn receive_stream(&mut self, flow: Flow, remote: SocketAddr, local: SocketAddr, bytes: &[u8]) {
        if !self.stream_is_known(flow, remote, local) {
            return;
        }
        if let Some(stream) = self.network.streams.get_mut(&flow) {
            stream.heard_at = self.now;
            stream.parser.push(bytes);
        }
        while let Some(item) = self.network.streams.get_mut(&flow).and_then(|stream| stream.parser.take()) {
            let Some(source) = self.source(flow, remote) else { return };
            match item {
                StreamItem::Message(message) => {
                    if let Some(stream) = self.network.streams.get_mut(&flow) {
                        stream.owes_since = None;
                    }
                    if self.config.trace {
                        self.trace(super::Direction::Received, source.transport, remote, &message.to_bytes());
                    }
                    self.receive_message(message, source);
                }
                StreamItem::Malformed(malformed) => {
                    self.receive_malformed(&malformed, source);
                    let Some(stream) = self.network.streams.get_mut(&flow) else { return };
                    stream.unreadable += 1;
                    if stream.unreadable >= UNREADABLE_MAX {
                        return self.close_stream(flow);
                    }
                }
                // RFC 5626 §4.4.1.
                StreamItem::Ping => {
                    self.outputs.push_back(Output::Transmit { flow, destination: remote, bytes: b"\r\n".to_vec() });
                }
                StreamItem::Pong => {}
                StreamItem::Lost(malformed) => {
                    self.receive_malformed(&malformed, source);
                    return self.close_stream(flow);
                }
            }
        }
        if let Some(stream) = self.network.streams.get_mut(&flow)
            && stream.parser.is_unfinished()
        {
            stream.owes_since.get_or_insert(self.now);
        }
        self.network.holds(flow);
        if !self.network.fits() {
            self.make_memory(flow);
        }
        self.watch_stream(flow);
    }

    /// Closes the connections that have held the beginning of a message for longest, but for those that are used, until
    /// what all of them hold fits. Whoever fills the memory so loses his own; if nobody is left to close, the one that
    /// brought more is.
    fn make_memory(&mut self, bringer: Flow) {
        let in_use = self.flows_in_use();
        let is_used = |flow| in_use.contains(&flow) || self.registrar.uses(flow);
        for flow in self.network.tardiest(is_used).into_iter().chain([bringer]) {
            if self.network.fits() {
                return;
            }
            self.counters.streams_evicted += 1;
            self.close_stream(flow);
        }
    }

    /// Makes a connection of a peer known, if there is room for it; else it is closed.
    pub(super) fn stream_is_known(&mut self, flow: Flow, remote: SocketAddr, local: SocketAddr) -> bool {
        if self.network.streams.contains_key(&flow) {
            return true;
        }
        let from_there = self.network.accepted_from(remote.ip()) >= self.config.streams_per_address_max;
        let has_room = if from_there {
            self.make_room(Some(remote))
        } else {
            self.network.streams.len() < self.config.streams_max || self.make_room(None)
        };
        if !has_room {
            self.counters.shed += 1;
            self.outputs.push_back(Output::CloseFlow(flow));
            return false;
        }
        self.network.add(self.now, flow, (local, remote), Opened::ByPeer);
        self.watch_stream(flow);
        true
    }

    /// Closes the connection that is missed least, of all or of those from one address.
    fn make_room(&mut self, from: Option<SocketAddr>) -> bool {
        let in_use = self.flows_in_use();
        let is_used = |flow| in_use.contains(&flow) || self.registrar.uses(flow);
        let Some(idlest) = self.network.idlest(from.map(|from| from.ip()), is_used) else { return false };
        self.counters.streams_evicted += 1;
        self.close_stream(idlest);
        true
    }

    /// The connections that a call, or a request under way, goes by.
    fn flows_in_use(&self) -> BTreeSet<Flow> {
        let hints = self.legs.values().filter_map(|leg| match leg {
            Leg::Calling(_) => None,
            Leg::Called(called) => called.dialog.heard_from,
            Leg::Talking(session) => session.dialog.heard_from,
        });
        let ways = self.clients.values().filter_map(|transaction| transaction.way);
        hints.filter_map(|hint| hint.flow).chain(ways.map(|way| way.flow)).collect()
    }

    pub(super) fn watch_stream(&mut self, flow: Flow) {
        let deadline = self.network.streams.get(&flow).map(|stream| {
            let idle_at = stream.heard_at + self.config.stream_idle;
            stream.owes_since.map_or(idle_at, |since| idle_at.min(since + MESSAGE_WITHIN))
        });
        self.alarms.set(Due::Stream(flow), deadline);
    }

    /// A connection nobody uses is closed, and one whose message never becomes whole; one that a dialog or a registration
    /// may use stays.
    pub(super) fn stream_time(&mut self, flow: Flow) {
        let Some(stream) = self.network.streams.get(&flow) else { return };
        if stream.owes_since.is_some_and(|since| since + MESSAGE_WITHIN <= self.now) {
            self.counters.streams_evicted += 1;
            return self.close_stream(flow);
        }
        let is_used = self.registrar.uses(flow) || self.flows_in_use().contains(&flow);
        if is_used {
            self.alarms.set(Due::Stream(flow), Some(self.now + self.config.stream_idle));
        } else {
            self.close_stream(flow);
        }
    }

    fn close_stream(&mut self, flow: Flow) {
        self.outputs.push_back(Output::CloseFlow(flow));
        self.stream_closed(flow);
    }

    pub(super) fn stream_closed(&mut self, flow: Flow) {
        self.alarms.set(Due::Stream(flow), None);
        if self.network.close(flow).is_some() {
            self.client_flow_closed(flow);
            self.registration_flow_closed(flow);
            self.registrar_flow_closed(flow);
        }
    }
}
