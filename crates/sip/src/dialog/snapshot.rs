//! A dialog as bytes: enough for a later process to go on with it, or to end it.
//!
//! One version byte, then fields, each preceded by its length. Only this module reads what it wrote; a version it
//! does not know is refused rather than guessed at. Version 1 lacks the session timer, version 2 the registered contact and
//! whether the peer understands UPDATE.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Dialog, DialogId};
use crate::agent::{Hint, Registered, Snapshot, Transport};
use crate::invite::reinvite::SessionTimer;
use crate::message::{NameAddr, Uri};

/// What is written.
const VERSION: u8 = 3;

/// The bytes are no snapshot of a version that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a dialog snapshot of version {VERSION} or before")]
pub struct UnreadableSnapshot;

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The flow it used is not known any longer.
    pub dialog: Dialog,
    /// The descriptions last agreed on.
    pub local_sdp: Vec<u8>,
    pub remote_sdp: Vec<u8>,
}

impl Snapshot {
    /// Our and the peer's session description, as they were last agreed on.
    pub fn descriptions(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        Dialog::restore(self).ok().map(|restored| (restored.local_sdp, restored.remote_sdp))
    }
}

impl Dialog {
    /// The dialog and the descriptions last agreed on.
    pub fn snapshot(&self, local_sdp: &[u8], remote_sdp: &[u8]) -> Snapshot {
        let mut out = vec![VERSION];
        let mut field = |bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        field(self.id.call_id.as_bytes());
        field(self.id.local_tag.as_bytes());
        field(self.id.remote_tag.as_bytes());
        field(&self.local.to_bytes());
        field(&self.remote.to_bytes());
        field(&self.local_cseq.to_be_bytes());
        field(&self.remote_cseq.map(|number| number.to_be_bytes().to_vec()).unwrap_or_default());
        field(&self.remote_target.to_bytes());
        field(&self.local_target.to_bytes());
        let heard_from = self.heard_from.map(|hint| format!("{} {}", hint.transport.via_name(), hint.destination));
        field(heard_from.unwrap_or_default().as_bytes());
        field(self.advertised.map(|address| address.to_string()).unwrap_or_default().as_bytes());
        field(&[u8::from(self.is_caller)]);
        field(local_sdp);
        field(remote_sdp);
        // The moment of the last refresh is not told: a later process counts from its own start.
        let timer =
            self.timer.map(|timer| [&timer.interval.as_secs().to_be_bytes()[..], &[u8::from(timer.ours)]].concat());
        field(&timer.unwrap_or_default());
        let registered = self.registered.as_ref();
        field(registered.map_or(b"", |registered| registered.aor.as_bytes()));
        field(registered.and_then(|registered| registered.instance.as_deref()).unwrap_or_default().as_bytes());
        field(&[u8::from(self.peer_updates)]);
        for route in &self.routes {
            field(&route.to_bytes());
        }
        Snapshot(out)
    }

    /// Reads a snapshot.
    pub fn restore(snapshot: &Snapshot) -> Result<Restored, UnreadableSnapshot> {
        let (&version, rest) = snapshot.0.split_first().ok_or(UnreadableSnapshot)?;
        if !(1..=VERSION).contains(&version) {
            return Err(UnreadableSnapshot);
        }
        let mut reader = Reader { rest };
        let id = DialogId { call_id: reader.text()?, local_tag: reader.text()?, remote_tag: reader.text()? };
        let local = reader.address()?;
        let remote = reader.address()?;
        let local_cseq = reader.number()?.ok_or(UnreadableSnapshot)?;
        let remote_cseq = reader.number()?;
        let remote_target = reader.uri()?;
        let local_target = reader.uri()?;
        let heard_from = match reader.text()?.split_once(' ') {
            Some((transport, destination)) => Some(Hint {
                flow: None,
                transport: Transport::from_name(transport).ok_or(UnreadableSnapshot)?,
                destination: destination.parse().map_err(|_| UnreadableSnapshot)?,
            }),
            None => None,
        };
        let advertised = reader.text()?;
        let advertised: Option<SocketAddr> =
            if advertised.is_empty() { None } else { Some(advertised.parse().map_err(|_| UnreadableSnapshot)?) };
        let is_caller = reader.flag()?;
        let local_sdp = reader.field()?.to_vec();
        let remote_sdp = reader.field()?.to_vec();
        let timer = if version >= 2 { reader.timer()? } else { None };
        let (registered, peer_updates) =
            if version >= 3 { (reader.registered()?, reader.flag()?) } else { (None, false) };
        let mut routes = Vec::new();
        while !reader.rest.is_empty() {
            routes.push(reader.address()?);
        }
        let dialog = Self {
            id,
            local,
            remote,
            local_cseq,
            remote_cseq,
            routes,
            remote_target,
            local_target,
            heard_from,
            advertised,
            is_caller,
            registered,
            timer,
            peer_updates,
        };
        Ok(Restored { dialog, local_sdp, remote_sdp })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<&'a [u8], UnreadableSnapshot> {
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(UnreadableSnapshot)?;
        let length = u32::from_be_bytes(*length) as usize;
        let field = rest.get(..length).ok_or(UnreadableSnapshot)?;
        self.rest = &rest[length..];
        Ok(field)
    }

    fn text(&mut self) -> Result<String, UnreadableSnapshot> {
        String::from_utf8(self.field()?.to_vec()).map_err(|_| UnreadableSnapshot)
    }

    fn address(&mut self) -> Result<NameAddr, UnreadableSnapshot> {
        NameAddr::parse(self.field()?).ok_or(UnreadableSnapshot)
    }

    fn uri(&mut self) -> Result<Uri, UnreadableSnapshot> {
        Uri::parse(self.field()?).map_err(|_| UnreadableSnapshot)
    }

    fn flag(&mut self) -> Result<bool, UnreadableSnapshot> {
        Ok(self.field()? == [1])
    }

    fn registered(&mut self) -> Result<Option<Registered>, UnreadableSnapshot> {
        let (aor, instance) = (self.text()?, self.text()?);
        let instance = (!instance.is_empty()).then_some(instance);
        Ok((!aor.is_empty()).then_some(Registered { aor, instance }))
    }

    fn timer(&mut self) -> Result<Option<SessionTimer>, UnreadableSnapshot> {
        let field = self.field()?;
        match field.split_first_chunk::<8>() {
            None if field.is_empty() => Ok(None),
            Some((seconds, [ours @ (0 | 1)])) => {
                let interval = Duration::from_secs(u64::from_be_bytes(*seconds));
                Ok(Some(SessionTimer { interval, ours: *ours == 1 }))
            }
            Some(_) | None => Err(UnreadableSnapshot),
        }
    }

    fn number(&mut self) -> Result<Option<u32>, UnreadableSnapshot> {
        match self.field()? {
            [] => Ok(None),
            bytes => bytes.try_into().map(|bytes| Some(u32::from_be_bytes(bytes))).map_err(|_| UnreadableSnapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Dialog, Restored, UnreadableSnapshot};
    use crate::agent::{Hint, Registered, Snapshot, Transport};
    use crate::invite::reinvite::SessionTimer;
    use crate::message::{Message, parse_datagram};

    fn dialog() -> Dialog {
        let invite = b"INVITE sip:us@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKa\r\n\
            Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\nFrom: \"A\" <sip:a@example.com>;tag=1\r\n\
            To: <sip:us@10.0.0.1>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\nContact: <sip:a@10.0.0.2>\r\n\
            Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
        let Ok(Message::Request(request)) = parse_datagram(invite) else { panic!("a request") };
        Dialog::of_callee(&request, "2", "sip:us@10.0.0.1".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let mut dialog = dialog();
        dialog.heard_from =
            Some(Hint { flow: None, transport: Transport::Tcp, destination: "10.0.0.9:5".parse().unwrap() });
        dialog.advertised = Some("[::1]:5060".parse().unwrap());
        dialog.timer = Some(SessionTimer { interval: Duration::from_mins(30), ours: true });
        dialog.registered = Some(Registered { aor: "a@b".to_owned(), instance: Some("<urn:uuid:1>".to_owned()) });
        dialog.peer_updates = true;
        let snapshot = dialog.snapshot(b"ours", b"theirs");
        let (local_sdp, remote_sdp) = (b"ours".to_vec(), b"theirs".to_vec());
        assert_eq!(snapshot.descriptions(), Some((local_sdp.clone(), remote_sdp.clone())));
        assert_eq!(Dialog::restore(&snapshot), Ok(Restored { dialog, local_sdp, remote_sdp }));
    }

    #[test]
    fn snapshots_of_earlier_versions_are_read() {
        let mut dialog = dialog();
        dialog.timer = Some(SessionTimer { interval: Duration::from_mins(30), ours: true });
        let whole = dialog.snapshot(b"ours", b"theirs").0;
        let after_sdp = whole.windows(6).position(|window| window == b"theirs").unwrap() + 6;
        // The timer is a field of nine bytes; after it stand two empty texts and a flag.
        let (timer, more) = (4 + 9, 4 + 4 + 5);
        let without = |version: u8, from: usize, length: usize| {
            let mut bytes = whole.clone();
            bytes[0] = version;
            bytes.drain(from..from + length);
            Dialog::restore(&Snapshot(bytes)).unwrap().dialog
        };
        assert_eq!(without(2, after_sdp + timer, more), dialog);
        assert_eq!(without(1, after_sdp, timer + more), Dialog { timer: None, ..dialog });
    }

    #[test]
    fn a_broken_snapshot_is_refused() {
        let whole = dialog().snapshot(b"", b"").0;
        for length in 0..whole.len() {
            // Routes stand at the end, so a cut between two of them cannot be seen; anywhere else it is.
            let cut = Dialog::restore(&Snapshot(whole[..length].to_vec()));
            assert!(cut.is_err() || cut.is_ok_and(|cut| cut.dialog.routes.len() < 2), "{length}");
        }
        assert_eq!(Dialog::restore(&Snapshot(vec![9, 0, 0])), Err(UnreadableSnapshot));
    }
}
