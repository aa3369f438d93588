//! Dialogs: what two user agents agree on once an INVITE has been answered (RFC 3261 §12).

mod snapshot;

use std::net::SocketAddr;

pub use snapshot::{Restored, UnreadableSnapshot};

use crate::agent::{Flow, Hint, Registered};
use crate::invite::reinvite::SessionTimer;
use crate::message::limits::CSEQ_MAX;
use crate::message::{CSeq, HeaderError, HeaderName, Headers, Method, NameAddr, Request, Response, Uri};

/// What names a dialog, seen from our side (RFC 3261 §12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialogId {
    pub call_id: String,
    pub local_tag: String,
    /// Empty for a peer of before RFC 3261.
    pub remote_tag: String,
}

/// One dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    pub id: DialogId,
    /// Our address with our tag: From of our requests.
    pub local: NameAddr,
    /// The peer's address with its tag: To of our requests.
    pub remote: NameAddr,
    /// The number of our last request.
    pub local_cseq: u32,
    /// The number of the peer's last request; requests below it are out of order (RFC 3261 §12.2.2).
    pub remote_cseq: Option<u32>,
    /// The way of our requests, first hop first.
    pub routes: Vec<NameAddr>,
    /// The peer's Contact.
    pub remote_target: Uri,
    /// Our Contact.
    pub local_target: Uri,
    /// Where the peer was last heard from, for peers whose Contact leads nowhere.
    pub heard_from: Option<Hint>,
    /// What our Via says where it differs from the flow's own address.
    pub advertised: Option<SocketAddr>,
    /// We placed the call: we chose the Call-ID.
    pub is_caller: bool,
    /// The contact we called, if it was a registered one: its phone may come back from another address.
    pub registered: Option<Registered>,
    /// Who keeps the session alive, if anybody has to.
    pub timer: Option<SessionTimer>,
    /// The peer understands UPDATE.
    pub peer_updates: bool,
}

impl Dialog {
    /// The caller's side, from its INVITE and a response with a To tag (RFC 3261 §12.1.2).
    pub fn of_caller(request: &Request, response: &Response) -> Result<Self, HeaderError> {
        let mut dialog = Self::of_stray(response)?;
        // Without Contact, which a 2xx must have, the peer is where the INVITE went.
        if response.headers.contacts().map_or(true, |contacts| contacts.is_empty()) {
            dialog.remote_target = request.uri.clone();
        }
        if let Some(contact) = request.headers.contacts().ok().and_then(|contacts| contacts.into_iter().next()) {
            dialog.local_target = contact.uri;
        }
        Ok(dialog)
    }

    /// The caller's side, from nothing but a 2xx to an INVITE of an earlier process.
    pub fn of_stray(response: &Response) -> Result<Self, HeaderError> {
        let headers = &response.headers;
        let (local, remote, cseq) = (headers.from()?, headers.to()?, headers.cseq()?);
        let mut routes = headers.record_routes()?;
        routes.reverse();
        let contact = headers.contacts().ok().and_then(|contacts| contacts.into_iter().next());
        Ok(Self {
            id: DialogId {
                call_id: headers.call_id()?.to_owned(),
                local_tag: local.tag().unwrap_or_default().to_owned(),
                remote_tag: remote.tag().unwrap_or_default().to_owned(),
            },
            remote_target: contact.map_or_else(|| remote.uri.clone(), |contact| contact.uri),
            local_target: local.uri.clone(),
            local,
            remote,
            local_cseq: cseq.number,
            remote_cseq: None,
            routes,
            heard_from: None,
            advertised: None,
            is_caller: true,
            registered: None,
            timer: None,
            peer_updates: false,
        })
    }

    /// The called side, from the INVITE and our tag (RFC 3261 §12.1.1).
    pub fn of_callee(request: &Request, local_tag: &str, local_target: Uri) -> Result<Self, HeaderError> {
        let headers = &request.headers;
        let (remote, cseq) = (headers.from()?, headers.cseq()?);
        let local = headers.to()?.with_tag(local_tag);
        let contact = match headers.contacts()?.into_iter().next() {
            Some(contact) => contact,
            // A peer of before RFC 3261, known by its missing tag, is reached at its From.
            None if remote.tag().is_none() => NameAddr::new(remote.uri.clone()),
            None => return Err(HeaderError::Missing(HeaderName::Contact)),
        };
        Ok(Self {
            id: DialogId {
                call_id: headers.call_id()?.to_owned(),
                local_tag: local_tag.to_owned(),
                remote_tag: remote.tag().unwrap_or_default().to_owned(),
            },
            local,
            remote,
            local_cseq: 0,
            remote_cseq: Some(cseq.number),
            routes: headers.record_routes()?,
            remote_target: contact.uri,
            local_target,
            heard_from: None,
            advertised: None,
            is_caller: false,
            registered: None,
            timer: None,
            peer_updates: false,
        })
    }

    /// Our next request within the dialog (RFC 3261 §12.2.1.1).
    pub fn request(&mut self, method: &Method) -> Request {
        self.local_cseq += 1;
        self.request_numbered(method, self.local_cseq)
    }

    /// The ACK of a 2xx to our INVITE with this number (RFC 3261 §13.2.2.4).
    pub fn ack(&self, cseq: u32) -> Request {
        self.request_numbered(&Method::Ack, cseq)
    }

    fn request_numbered(&self, method: &Method, number: u32) -> Request {
        let mut routes = self.routes.clone();
        let mut uri = self.remote_target.clone();
        // RFC 3261 §12.2.1.1: a strict router wants to be the Request-URI itself; the target goes to the end.
        if routes.first().is_some_and(|first| !first.uri.is_loose_router()) {
            routes.push(NameAddr::new(uri));
            uri = routes.remove(0).uri;
        }
        uri.headers = None;
        let mut request = Request::new(method.clone(), uri);
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, "70");
        for route in &routes {
            headers.push(HeaderName::Route, route);
        }
        headers.push(HeaderName::From, &self.local);
        headers.push(HeaderName::To, &self.remote);
        headers.push(HeaderName::CallId, self.id.call_id.as_str());
        headers.push(HeaderName::CSeq, CSeq { number, method: method.clone() });
        if matches!(method, Method::Invite | Method::Update) {
            headers.push(HeaderName::Contact, NameAddr::new(self.local_target.clone()));
        }
        request
    }

    /// The numbers up to this one are taken: by requests of an early dialog, or of an earlier process.
    pub fn skip_to(&mut self, number: u32) {
        // One is left for a BYE.
        self.local_cseq = self.local_cseq.max(number).min(CSEQ_MAX - 1);
    }

    /// Where our requests go first.
    pub fn next_hop(&self) -> &Uri {
        self.routes.first().map_or(&self.remote_target, |route| &route.uri)
    }

    /// Notes the number of a request of the peer; `false` if it is not above the last one: out of order, to be
    /// answered 500 (RFC 3261 §12.2.2). An ACK is never asked.
    pub fn admit(&mut self, number: u32) -> bool {
        let in_order = self.remote_cseq.is_none_or(|last| number > last);
        if in_order {
            self.remote_cseq = Some(number);
        }
        in_order
    }

    /// A target refresh: the peer's Contact is its new target (RFC 3261 §12.2). Whether it changed.
    pub fn retarget(&mut self, headers: &Headers) -> bool {
        match headers.contacts().ok().and_then(|contacts| contacts.into_iter().next()) {
            Some(contact) if contact.uri != self.remote_target => {
                self.remote_target = contact.uri;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether messages to the peer go by this flow.
    pub fn uses(&self, flow: Flow) -> bool {
        self.heard_from.is_some_and(|hint| hint.flow == Some(flow))
    }

    /// Notes where the peer is heard from, if its Contact may not lead there: over a stream, whose connection is
    /// used again, or when the Contact is a private address that differs from where the peer's messages come from, as
    /// behind a NAT. `insist` is for a peer that registered from there. With a route set the first router knows the
    /// way.
    pub fn hear_from(&mut self, hint: Hint, insist: bool) {
        if !self.routes.is_empty() {
            return;
        }
        let ip = self.remote_target.host.ip();
        let is_hidden = ip.is_some_and(|ip| ip != hint.destination.ip() && !is_reachable(ip));
        if insist || is_hidden || hint.transport.is_reliable() {
            self.heard_from = Some(hint);
        }
    }
}

/// An address that is neither private nor of this machine.
fn is_reachable(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback() && !ip.is_link_local(),
        std::net::IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unique_local() && !ip.is_unicast_link_local(),
    }
}
