//! Messages out of a stream: framing by Content-Length, keep-alives, bounded memory.
//!
//! A message that is wrong but whose length is known is reported and the next one is read; only a lost boundary ends
//! the stream.

use super::limits::{MESSAGE_BYTES_MAX, SKIPPED_BYTES_MAX, STREAM_BYTES_MAX};
use super::parse::{Head, Malformed, Problem, head_length};
use super::{HeaderName, Message};

/// What a stream yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    Message(Message),
    /// A message that cannot be used. The ones behind it can.
    Malformed(Malformed),
    /// A double line end: the peer wants a single one back (RFC 5626 §4.4.1).
    Ping,
    /// A single line end: the answer to our ping.
    Pong,
    /// Nobody knows where the next message begins. Nothing more will come; the connection is to be closed after the
    /// answer, if one is due.
    Lost(Malformed),
}

/// Cuts a stream into messages. Push what was read, then take items until there is none.
#[derive(Debug, Default)]
pub struct StreamParser {
    waiting: Vec<u8>,
    /// Bytes of a refused body that are still to come.
    skipping: u64,
    /// Where to go on looking for the end of the head, so that slow senders cost no quadratic work.
    scanned: usize,
    /// How many bytes the unfinished message has, once its head is there.
    needed: usize,
    half_ping: bool,
    overflowed: bool,
    lost: bool,
}

impl StreamParser {
    /// A parser at the beginning of a stream.
    pub fn new() -> StreamParser {
        StreamParser::default()
    }

    /// Adds bytes. When items are not taken and [`STREAM_BYTES_MAX`] bytes wait, the stream is given up.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.lost || self.overflowed {
            return;
        }
        if self.waiting.is_empty() && self.skipping > 0 {
            let skipped = usize::try_from(self.skipping).unwrap_or(usize::MAX).min(bytes.len());
            self.skipping -= skipped as u64;
            bytes = &bytes[skipped..];
        }
        if self.waiting.len() + bytes.len() > STREAM_BYTES_MAX {
            self.overflowed = true;
            return;
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// Bytes of a message that has begun and is not whole.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a message has begun and is not whole, or the rest of a refused one is still to come.
    pub fn is_unfinished(&self) -> bool {
        self.skipping > 0 || !(self.waiting.is_empty() || self.waiting == b"\r")
    }

    /// Whether the stream was given up.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The next item, or nothing until more bytes come.
    pub fn take(&mut self) -> Option<StreamItem> {
        if self.lost {
            return None;
        }
        let item = self.take_whole();
        if item.is_none() && self.overflowed {
            return Some(self.lose(Problem::TooLong));
        }
        item
    }

    fn take_whole(&mut self) -> Option<StreamItem> {
        if let Some(item) = self.take_line_ends() {
            return Some(item);
        }
        if self.waiting.is_empty() || self.waiting == b"\r" {
            return None;
        }
        if self.waiting.len() < self.needed {
            return None;
        }
        let from = self.scanned.saturating_sub(4);
        // Starting in the middle of a line is harmless: only the line end before an empty line matters.
        let Some(head_end) = end_of_head(&self.waiting, from) else {
            self.scanned = self.waiting.len();
            return (self.waiting.len() > MESSAGE_BYTES_MAX).then(|| self.lose(Problem::TooLong));
        };
        let mut head = Head::read(&self.waiting[..head_end]);
        let length = match head.headers.content_length() {
            Ok(Some(length)) => length,
            Ok(None) => {
                // RFC 3261 §20.14: over a stream it must be there.
                head.note(super::HeaderError::Missing(HeaderName::ContentLength).into(), 400);
                return Some(self.lose_after(head));
            }
            Err(error) => {
                head.note(error.into(), 400);
                return Some(self.lose_after(head));
            }
        };
        let end = usize::try_from(length).ok().and_then(|length| head_end.checked_add(length));
        let Some(end) = end.filter(|end| *end <= MESSAGE_BYTES_MAX) else {
            head.note(Problem::TooLong, 513);
            if length > SKIPPED_BYTES_MAX {
                return Some(self.lose_after(head));
            }
            let here = (self.waiting.len() - head_end) as u64;
            let skipped = here.min(length);
            self.consume(head_end + skipped as usize);
            self.skipping = length - skipped;
            return Some(StreamItem::Malformed(head.malformed()));
        };
        if self.waiting.len() < end {
            self.needed = end;
            return None;
        }
        let read = head.finish(&self.waiting[head_end..end]);
        self.consume(end);
        Some(match read {
            Ok(message) => StreamItem::Message(message),
            Err(malformed) => StreamItem::Malformed(malformed),
        })
    }

    fn take_line_ends(&mut self) -> Option<StreamItem> {
        let stray = self.waiting.iter().take_while(|byte| **byte == b'\n').count();
        if stray > 0 {
            self.consume(stray);
        }
        if self.waiting.starts_with(b"\r\n\r\n") && !self.half_ping {
            self.consume(4);
            return Some(StreamItem::Ping);
        }
        if self.waiting.starts_with(b"\r\n") {
            self.consume(2);
            // The second half of a ping that came in two reads; its first half was taken for a pong.
            let item = if self.half_ping { StreamItem::Ping } else { StreamItem::Pong };
            self.half_ping = !self.half_ping;
            return Some(item);
        }
        if !self.waiting.is_empty() && self.waiting != b"\r" {
            self.half_ping = false;
        }
        None
    }

    fn consume(&mut self, count: usize) {
        self.waiting.drain(..count);
        self.scanned = 0;
        self.needed = 0;
    }

    fn lose(&mut self, problem: Problem) -> StreamItem {
        let mut head = Head::read(&self.waiting);
        head.note(problem, 513);
        self.lose_after(head)
    }

    fn lose_after(&mut self, head: Head) -> StreamItem {
        self.lost = true;
        self.waiting = Vec::new();
        StreamItem::Lost(head.malformed())
    }
}

/// As [`head_length`], looking for the empty line from a place on.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    if from == 0 {
        return head_length(bytes);
    }
    // Step to a line start, so that half a line is not taken for an empty one.
    let start = from + memchr::memchr(b'\n', &bytes[from..])?;
    head_length(&bytes[start.saturating_sub(1)..]).map(|length| start.saturating_sub(1) + length)
}
