//! Whose word counts within a call: the peer's, and that of nobody who has merely overheard the call's tags.
//!
//! Requests within a dialog, CANCELs and responses are taken from where the peer is known to be:
//!
//! - its connection, or the address that the call went to, was answered from, or its last request came from. Ports do not
//!   matter: a NAT may give it another one at any time;
//! - the address in its Contact, or of the first router of the dialog;
//! - wherever the user of the dialog has a contact registered: a phone that comes back with another address registers
//!   anew, with its password;
//! - every address that DNS names for the host that was called: trunks are many machines.
//!
//! A phone that has moved and says so within the call first is asked for its password (RFC 3261 §22.1). Anybody else gets
//! 403, and the call does not notice.

use std::net::IpAddr;

use super::servers::{ServerKey, Source};
use super::{Agent, Leg, LegKey};
use crate::dialog::Dialog;
use crate::digest::Credentials;
use crate::message::{HeaderName, Host, Request, Uri};

/// Where the peer of a call was met.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// The address its last request came from, or that it answered from.
    heard_at: Option<IpAddr>,
    /// The address that our INVITE went to.
    called_at: Option<IpAddr>,
    /// The host that was called.
    host: Option<String>,
}

impl Peer {
    /// It called us from there.
    pub(super) fn at(ip: IpAddr) -> Self {
        Self { heard_at: Some(ip), ..Self::default() }
    }

    /// It answered our call to a URI.
    pub(super) fn of_answer(source: IpAddr, called_at: Option<IpAddr>, called: &Uri) -> Self {
        Self { heard_at: Some(source), called_at, host: name_of(called) }
    }

    /// It has been heard from there, beyond doubt.
    pub(super) fn is_at(&mut self, ip: IpAddr) {
        self.heard_at = Some(ip);
    }

    fn was_met_at(&self, ip: IpAddr) -> bool {
        [self.heard_at, self.called_at].contains(&Some(ip))
    }

    fn is_unknown(&self) -> bool {
        self.heard_at.is_none() && self.called_at.is_none()
    }
}

impl Agent {
    /// Whether a message of a leg's dialog comes from where its peer is known to be.
    pub(super) fn is_peer(&self, leg: LegKey, source: Source) -> bool {
        let (dialog, peer) = match self.legs.get(&leg) {
            Some(Leg::Talking(session)) => (&session.dialog, &session.peer),
            Some(Leg::Called(called)) => (&called.dialog, &called.peer),
            Some(Leg::Calling(_)) | None => return false,
        };
        self.is_peer_of(dialog, peer, source)
    }

    /// The same, for a dialog of an INVITE that still rings.
    pub(super) fn is_peer_of(&self, dialog: &Dialog, peer: &Peer, source: Source) -> bool {
        let ip = source.address.ip();
        let hint = dialog.heard_from;
        let by_its_connection = source.transport.is_reliable() && dialog.uses(source.flow);
        if by_its_connection || peer.was_met_at(ip) || hint.is_some_and(|hint| hint.destination.ip() == ip) {
            return true;
        }
        let next = dialog.next_hop();
        if next.host.ip() == Some(ip) {
            return true;
        }
        let names = [name_of(next), peer.host.clone()];
        if names.into_iter().flatten().any(|name| self.answers.may_be(&name, ip)) {
            return true;
        }
        let registered = dialog.registered.as_ref().map(|registered| registered.aor.clone());
        let users = [self.user_of(&dialog.remote.uri), registered];
        if users.into_iter().flatten().any(|aor| self.is_registered_from(&aor, ip)) {
            return true;
        }
        // A dialog of an earlier process with a peer that is known by its name only: nobody can tell.
        peer.is_unknown() && hint.is_none() && next.host.ip().is_none()
    }

    /// Whether a request from elsewhere proves that it comes from the user of the dialog; answered otherwise.
    pub(super) fn is_proven(&mut self, key: ServerKey, leg: LegKey, request: &Request) -> bool {
        let remote = |dialog: &Dialog| dialog.remote.uri.clone();
        let user = match self.legs.get(&leg) {
            Some(Leg::Talking(session)) => remote(&session.dialog),
            Some(Leg::Called(called)) => remote(&called.dialog),
            Some(Leg::Calling(_)) | None => return false,
        };
        self.is_proven_of(key, &user, request)
    }

    /// The same, for a dialog of an INVITE that still rings.
    pub(super) fn is_proven_of(&mut self, key: ServerKey, user: &Uri, request: &Request) -> bool {
        self.counters.foreign_received += 1;
        let realm = self.config.registrar.as_ref().map(|wanted| wanted.realm.clone());
        let Some(realm) = realm.filter(|_| self.user_of(user).is_some()) else {
            self.reply(key, 403);
            return false;
        };
        let Some(credentials) = Credentials::find(&request.headers, &HeaderName::Authorization, &realm) else {
            self.challenge(key, false);
            return false;
        };
        self.prove(key, &credentials, &request.method, user).is_some()
    }
}

fn name_of(uri: &Uri) -> Option<String> {
    match &uri.host {
        Host::Domain(name) => Some(name.clone()),
        Host::Ip(_) => None,
    }
}
