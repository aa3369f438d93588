//! SIP messages: whatever is read is printed so that it is read again, and every header can be asked for.

use sip::message::{Headers, is_keep_alive, mask_credentials, parse_datagram};

/// Reads a datagram.
///
/// # Panics
/// When what was read and printed is not read and printed the same.
pub fn run(bytes: &[u8]) {
    let _ = is_keep_alive(bytes);
    let masked = mask_credentials(bytes);
    assert!(masked.len() <= bytes.len() * 2 + 64, "masking must not swell a message");
    match parse_datagram(bytes) {
        Ok(message) => {
            read_all(message.headers());
            let printed = message.to_bytes();
            let again = match parse_datagram(&printed) {
                Ok(again) => again,
                Err(malformed) => panic!("{:?} of {:?}", malformed.problem(), String::from_utf8_lossy(&printed)),
            };
            assert_eq!(again.to_bytes(), printed, "printed twice");
        }
        Err(malformed) => {
            read_all(malformed.headers());
            if let Some(response) = malformed.response() {
                // It repeats Via, From and the like as they came, broken or not (RFC 3261 §8.2.6.2).
                assert!(response.to_bytes().starts_with(b"SIP/2.0 "));
            }
        }
    }
}

/// Asks for everything that can be asked for.
fn read_all(headers: &Headers) {
    let _ = (headers.from(), headers.to(), headers.cseq(), headers.call_id(), headers.vias(), headers.top_via());
    let _ = (headers.routes(), headers.record_routes(), headers.paths(), headers.asserted_identities());
    let _ = (headers.max_forwards(), headers.content_length(), headers.content_type(), headers.expires());
    let _ = (headers.require(), headers.supported(), headers.allow(), headers.retry_after(), headers.session_expires());
    let _ = (headers.min_se(), headers.reasons(), headers.rseq(), headers.rack(), headers.refer_to());
    for contact in headers.contacts().unwrap_or_default() {
        let _ = (contact.q_thousandths(), contact.expires(), contact.uri.user_text());
        assert!(contact.uri.is_same(&contact.uri), "a URI is the same as itself");
    }
}
