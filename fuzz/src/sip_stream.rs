//! SIP over a connection: the same messages come out however the bytes are cut, and each takes bytes with it.

use sip::message::{StreamItem, StreamParser};

/// Reads a stream whole, and again in pieces; the first byte says how large those are.
///
/// # Panics
/// When both do not yield the same, or something comes out of nothing.
pub fn run(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(size) % 97 + 1);
    assert_eq!(whole, pieces);
}

fn read(bytes: &[u8], size: usize) -> Vec<String> {
    let mut parser = StreamParser::new();
    let (mut items, mut count) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        parser.push(piece);
        while let Some(item) = parser.take() {
            count += 1;
            assert!(count <= bytes.len() + 1, "more items than bytes");
            // Half a ping looks like a pong until the other half comes.
            if item != StreamItem::Pong {
                items.push(told(&item));
            }
            if matches!(item, StreamItem::Lost(_)) {
                return items;
            }
        }
    }
    items
}

fn told(item: &StreamItem) -> String {
    match item {
        StreamItem::Message(message) => String::from_utf8_lossy(&message.to_bytes()).into_owned(),
        StreamItem::Malformed(malformed) => format!("malformed: {:?}", malformed.problem()),
        StreamItem::Ping => "ping".to_owned(),
        StreamItem::Pong => "pong".to_owned(),
        StreamItem::Lost(malformed) => format!("lost: {:?}", malformed.problem()),
    }
}
