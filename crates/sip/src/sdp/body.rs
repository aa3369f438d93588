//! Finding the session description in a message's body.

use super::NegotiationError;
use crate::message::{HeaderName, Headers, Params, scan};

/// The media type of session descriptions.
pub const SDP_MEDIA_TYPE: &str = "application/sdp";

/// Most parts of a multipart body that are looked at.
const PARTS_MAX: usize = 16;

/// The session description in a body: the body itself, or the first such part of a multipart one (RFC 5621). Nothing
/// if there is no body. [`NegotiationError::MediaType`] (415) if it is something else.
pub fn session_body<'a>(headers: &Headers, body: &'a [u8]) -> Result<Option<&'a [u8]>, NegotiationError> {
    if body.is_empty() {
        return Ok(None);
    }
    let content =
        headers.content_type().map_err(|_| NegotiationError::MediaType)?.ok_or(NegotiationError::MediaType)?;
    let encoding = headers.get(HeaderName::ContentEncoding).map(scan::trim);
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return Err(NegotiationError::MediaType);
    }
    if content.media == SDP_MEDIA_TYPE {
        return Ok(Some(body));
    }
    if !content.media.starts_with("multipart/") {
        return Err(NegotiationError::MediaType);
    }
    parts(&content.params, body).into_iter().find_map(session_part).map(Some).ok_or(NegotiationError::MediaType)
}

fn parts<'a>(params: &Params, body: &'a [u8]) -> Vec<&'a [u8]> {
    let Some(boundary) = params.get_unquoted("boundary").filter(|boundary| !boundary.is_empty()) else {
        return Vec::new();
    };
    let mut delimiter = b"--".to_vec();
    delimiter.extend(boundary);
    let mut starts = memchr::memmem::find_iter(body, &delimiter).take(PARTS_MAX + 1).peekable();
    let mut parts = Vec::new();
    while let Some(start) = starts.next() {
        let end = starts.peek().copied().unwrap_or(body.len());
        parts.push(&body[start + delimiter.len()..end]);
    }
    parts
}

fn session_part(part: &[u8]) -> Option<&[u8]> {
    // The rest of the delimiter's line, then the part's headers, an empty line, and the content.
    let mut rest = part;
    let mut is_session = false;
    let mut is_first = true;
    loop {
        let end = memchr::memchr(b'\n', rest)?;
        let line = scan::trim(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() && !is_first {
            return is_session.then_some(rest);
        }
        is_first = false;
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        if HeaderName::parse(&line[..colon]) == Some(HeaderName::ContentType) {
            let value = line[colon + 1..].split(|byte| *byte == b';').next().map(scan::trim);
            is_session = value.is_some_and(|value| value.eq_ignore_ascii_case(SDP_MEDIA_TYPE.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content_type: &str, body: &'static [u8]) -> Result<Option<&'static [u8]>, NegotiationError> {
        let mut headers = Headers::new();
        headers.push(HeaderName::ContentType, content_type);
        session_body(&headers, body)
    }

    #[test]
    fn plain_and_multipart_bodies() {
        assert_eq!(found("Application/SDP;charset=x", b"v=0"), Ok(Some(&b"v=0"[..])));
        assert_eq!(found("text/plain", b""), Ok(None));
        let body = b"--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n--b1\r\nc: application/sdp ; x\r\nContent-Disposition: session\r\n\r\nv=0\r\n\r\n--b1--\r\n";
        assert_eq!(found("multipart/mixed;boundary=\"b1\"", body), Ok(Some(&b"v=0\r\n\r\n"[..])));
    }

    #[test]
    fn anything_else_is_415() {
        for (content_type, body) in [
            ("text/plain", &b"hi"[..]),
            ("multipart/mixed", b"--b"),
            ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--"),
            ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: application/sdp"),
            ("nonsense", b"v=0"),
        ] {
            assert_eq!(found(content_type, body).map_err(|error| error.status()), Err(415), "{content_type}");
        }
        assert_eq!(session_body(&Headers::new(), b"v=0"), Err(NegotiationError::MediaType));
    }
}
