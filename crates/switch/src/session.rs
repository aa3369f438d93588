//! From what offer and answer have settled to what a media port is made of, and to what is stored of it.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use control::Timestamp;
use media::{Codec, Format, PortConfig, ToneFormat};
use serde::{Deserialize, Serialize};
use sip::sdp::{Agreed, CodecName, Direction};

/// The codecs of the configuration that we have, in its order.
pub(crate) fn codecs(names: &[String]) -> Vec<CodecName> {
    names.iter().filter_map(|name| Codec::from_name(name)).map(codec_name).collect()
}

pub(crate) fn codec(name: CodecName) -> Codec {
    match name {
        CodecName::Pcmu => Codec::Pcmu,
        CodecName::Pcma => Codec::Pcma,
        CodecName::G722 => Codec::G722,
        CodecName::Opus => Codec::Opus,
    }
}

fn codec_name(codec: Codec) -> CodecName {
    match codec {
        Codec::Pcmu => CodecName::Pcmu,
        Codec::Pcma => CodecName::Pcma,
        Codec::G722 => CodecName::G722,
        Codec::Opus => CodecName::Opus,
    }
}

/// What a port must know of a session.
pub(crate) fn port_config(agreed: &Agreed, seed: u64) -> PortConfig {
    let send = Format { payload_type: agreed.payload_type_send, codec: codec(agreed.codec) };
    let receive = agreed.receivable.iter().take(media::limits::FORMATS_MAX);
    let tones = agreed.telephone_event;
    PortConfig {
        send,
        bitrate: agreed.fmtp.as_deref().filter(|_| agreed.codec == CodecName::Opus).and_then(bitrate),
        receive: receive.map(|&(payload_type, name)| Format { payload_type, codec: codec(name) }).collect(),
        tones_send: tones.map(|tones| ToneFormat { payload_type: tones.payload_type_send, clock_rate: tones.clock }),
        tones_receive: tones
            .map(|tones| ToneFormat { payload_type: tones.payload_type_receive, clock_rate: tones.clock })
            .into_iter()
            .collect(),
        direction: direction(agreed.direction),
        cname: "convoke".to_owned(),
        seed,
    }
}

fn direction(direction: Direction) -> media::Direction {
    match direction {
        Direction::SendRecv => media::Direction::SendReceive,
        Direction::SendOnly => media::Direction::SendOnly,
        Direction::RecvOnly => media::Direction::ReceiveOnly,
        Direction::Inactive => media::Direction::Inactive,
    }
}

/// RFC 7587 §6.1: the most the peer wants to receive. Outside of what Opus can do it is no wish to follow.
fn bitrate(fmtp: &str) -> Option<u32> {
    let value = fmtp.split(';').filter_map(|part| part.trim().split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("maxaveragebitrate").then(|| value.trim().parse::<u32>().ok())?
    })?;
    (6_000..=510_000).contains(&value).then(|| value.min(Codec::Opus.default_bitrate()))
}

/// Where to send; `None` while the peer wants nothing (`c=0.0.0.0`).
pub(crate) fn sendable(remote: SocketAddr) -> Option<SocketAddr> {
    (!remote.ip().is_unspecified()).then_some(remote)
}

/// The peer holds us: it does not want to hear us.
pub(crate) fn holds(agreed: &Agreed) -> bool {
    !agreed.direction.sends() || agreed.remote.ip().is_unspecified()
}

/// A leg as text, from which a later process can go on with its dialog and its media, or end it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredLeg {
    /// The version of this form.
    v: u32,
    /// The agent's snapshot, base64.
    sip: String,
    /// Until then, in ms of Unix time, other devices may ring.
    #[serde(default = "always")]
    alone_from: i64,
    media: StoredMedia,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredMedia {
    local_port: u16,
    local_address: IpAddr,
    remote: SocketAddr,
    remote_rtcp: SocketAddr,
    signalling: IpAddr,
    codec: String,
    payload_type_send: u8,
    payload_type_receive: u8,
    /// Payload types of telephone events, ours and theirs, and their clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tones: Option<(u8, u8, u32)>,
    /// SSRC, first sequence number and first timestamp derive from it.
    seed: u64,
}

/// The version that this process writes.
const VERSION: u32 = 1;

/// What is stored beside the dialog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) signalling: IpAddr,
    pub(crate) seed: u64,
    pub(crate) alone_from: Timestamp,
}

/// Of legs that were written down without it.
fn always() -> i64 {
    i64::MAX
}

/// Writes a leg down.
pub(crate) fn store(snapshot: &sip::agent::Snapshot, agreed: &Agreed, here: Here) -> control::Snapshot {
    let stored = StoredLeg {
        v: VERSION,
        sip: STANDARD_NO_PAD.encode(&snapshot.0),
        alone_from: here.alone_from.0,
        media: StoredMedia {
            local_port: here.port,
            local_address: here.address,
            remote: agreed.remote,
            remote_rtcp: agreed.remote_rtcp,
            signalling: here.signalling,
            codec: agreed.codec.as_str().to_owned(),
            payload_type_send: agreed.payload_type_send,
            payload_type_receive: agreed.payload_type_receive,
            tones: agreed
                .telephone_event
                .map(|tones| (tones.payload_type_send, tones.payload_type_receive, tones.clock)),
            seed: here.seed,
        },
    };
    control::Snapshot(serde_json::to_string(&stored).expect("plain data is always JSON"))
}

/// What a leg that was written down says. Everything that was negotiated is in the dialog's descriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) dialog: sip::agent::Snapshot,
    /// Where our audio was.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) signalling: IpAddr,
    /// No other device of the person can ring for the call from then on.
    pub(crate) alone_from: Timestamp,
}

/// Reads a leg that was written down. `None` if it is of a form we do not know.
pub(crate) fn restore(text: &control::Snapshot) -> Option<Stored> {
    let stored: StoredLeg = serde_json::from_str(&text.0).ok()?;
    (stored.v == VERSION).then_some(())?;
    let StoredMedia { local_address: address, local_port: port, signalling, .. } = stored.media;
    let dialog = STANDARD_NO_PAD.decode(stored.sip).ok().map(sip::agent::Snapshot)?;
    Some(Stored { dialog, address, port, signalling, alone_from: Timestamp(stored.alone_from) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed() -> Agreed {
        Agreed {
            remote: "192.0.2.7:4000".parse().expect("an address"),
            remote_rtcp: "192.0.2.7:4001".parse().expect("an address"),
            rtcp_mux: false,
            codec: CodecName::Opus,
            payload_type_send: 107,
            payload_type_receive: 96,
            receivable: vec![(96, CodecName::Opus), (0, CodecName::Pcmu)],
            telephone_event: None,
            ptime_ms: 20,
            direction: Direction::SendRecv,
            fmtp: Some("useinbandfec=1; maxaveragebitrate=16000".to_owned()),
        }
    }

    #[test]
    fn we_send_with_their_numbers_and_receive_with_ours() {
        let config = port_config(&agreed(), 1);
        assert_eq!(config.send, Format { payload_type: 107, codec: Codec::Opus });
        assert_eq!(config.receive.len(), 2);
        assert_eq!(config.receive[0].payload_type, 96);
        assert_eq!(config.bitrate, Some(16_000));
    }

    #[test]
    fn a_leg_written_down_is_read_again_and_a_foreign_form_is_not() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let alone_from = Timestamp(1_700_000_000_000);
        let here = Here { address: loopback, port: 20_000, signalling: loopback, seed: u64::MAX, alone_from };
        let text = store(&sip::agent::Snapshot(vec![0, 255, 7]), &agreed(), here);
        let dialog = sip::agent::Snapshot(vec![0, 255, 7]);
        let stored = Stored { dialog, address: loopback, port: 20_000, signalling: loopback, alone_from };
        assert_eq!(restore(&text).as_ref(), Some(&stored));
        let before = control::Snapshot(text.0.replace("\"alone_from\":1700000000000,", ""));
        assert_eq!(restore(&before), Some(Stored { alone_from: Timestamp(i64::MAX), ..stored }));
        assert_eq!(restore(&control::Snapshot(text.0.replace("\"v\":1", "\"v\":2"))), None);
        assert_eq!(restore(&control::Snapshot("junk".to_owned())), None);
    }

    #[test]
    fn a_peer_holds_by_direction_or_by_an_address_nobody_can_send_to() {
        assert!(!holds(&agreed()));
        assert!(holds(&Agreed { direction: Direction::RecvOnly, ..agreed() }));
        let blackhole = Agreed { remote: "0.0.0.0:4000".parse().expect("an address"), ..agreed() };
        assert!(holds(&blackhole));
        assert_eq!(sendable(blackhole.remote), None);
    }
}
