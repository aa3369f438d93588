//! A dialog as bytes: enough for a later process to end it.
//!
//! One version byte, then fields, each preceded by its length. Only this module reads what it wrote; a version it
//! does not know is refused rather than guessed at.

use std::net::SocketAddr;

use super::{Dialog, DialogId};
use crate::agent::{Hint, Snapshot, Transport};
use crate::message::{NameAddr, Uri};

const VERSION: u8 = 1;

/// The bytes are no snapshot of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a dialog snapshot of version {VERSION}")]
pub struct UnreadableSnapshot;

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
        for route in &self.routes {
            field(&route.to_bytes());
        }
        Snapshot(out)
    }

    /// The dialog of a snapshot, with our and the peer's description. The flow it used is not known any longer.
    pub fn restore(snapshot: &Snapshot) -> Result<(Self, Vec<u8>, Vec<u8>), UnreadableSnapshot> {
        let (&version, rest) = snapshot.0.split_first().ok_or(UnreadableSnapshot)?;
        if version != VERSION {
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
        let is_caller = reader.field()? == [1];
        let local_sdp = reader.field()?.to_vec();
        let remote_sdp = reader.field()?.to_vec();
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
        };
        Ok((dialog, local_sdp, remote_sdp))
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

    fn number(&mut self) -> Result<Option<u32>, UnreadableSnapshot> {
        match self.field()? {
            [] => Ok(None),
            bytes => bytes.try_into().map(|bytes| Some(u32::from_be_bytes(bytes))).map_err(|_| UnreadableSnapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialog, UnreadableSnapshot};
    use crate::agent::{Hint, Snapshot, Transport};
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
        let snapshot = dialog.snapshot(b"ours", b"theirs");
        assert_eq!(Dialog::restore(&snapshot), Ok((dialog, b"ours".to_vec(), b"theirs".to_vec())));
    }

    #[test]
    fn a_broken_snapshot_is_refused() {
        let whole = dialog().snapshot(b"", b"").0;
        for length in 0..whole.len() {
            // Routes stand at the end, so a cut between two of them cannot be seen; anywhere else it is.
            let cut = Dialog::restore(&Snapshot(whole[..length].to_vec()));
            assert!(cut.is_err() || cut.is_ok_and(|(dialog, ..)| dialog.routes.len() < 2), "{length}");
        }
        assert_eq!(Dialog::restore(&Snapshot(vec![9, 0, 0])), Err(UnreadableSnapshot));
    }
}
