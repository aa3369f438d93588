//! Session descriptions: as an offer, as the answer to ours, and one after the other in one dialog.

use std::net::{IpAddr, Ipv4Addr};

use sip::sdp::{Direction, LocalMedia, Negotiation, SessionDescription};

/// Reads descriptions: one, or several of one dialog with a zero byte between them.
///
/// # Panics
/// When an answer of ours is none to the offer, or an offer of ours cannot be read.
pub fn run(bytes: &[u8]) {
    let mut local = LocalMedia::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4000, 7);
    local.rtcp_mux = true;
    local.peer = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
    let mut answering = Negotiation::new(local.clone());
    let mut offering = Negotiation::new(local);
    let mut hold = false;
    for body in bytes.split(|byte| *byte == 0).take(8) {
        if let Ok((answer, agreed)) = answering.answer(body) {
            let (offer, answer) = (read(body), read(&answer));
            // RFC 3264 §6: as many lines as the offer, and one of them is the audio agreed on.
            assert_eq!(offer.media.len(), answer.media.len());
            assert!(answer.media.iter().any(|line| line.port != 0));
            assert_eq!(answering.agreed(), Some(&agreed));
        }
        read(&offering.offer());
        hold = !hold;
        if offering.accept_answer(body).is_err() {
            offering.withdraw_offer();
        }
        offering.set_direction(if hold { Direction::SendOnly } else { Direction::SendRecv });
        // Whoever answered may be offered to in the same dialog.
        read(&answering.offer());
        answering.withdraw_offer();
    }
}

fn read(bytes: &[u8]) -> SessionDescription {
    SessionDescription::parse(bytes).unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(bytes)))
}
