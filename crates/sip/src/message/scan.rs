//! Small readers over bytes that know SIP's quoting: the ground the typed headers stand on.

/// Whether the byte may be part of a token (RFC 3261 §25.1).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Whether all bytes are token bytes and there is at least one.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without white space at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// A token as text, or nothing if the bytes are not a token.
pub(crate) fn token(bytes: &[u8]) -> Option<&str> {
    let bytes = trim(bytes);
    if is_token(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// A decimal number, or nothing: no sign, no overflow.
pub(crate) fn number<T: TryFrom<u64>>(bytes: &[u8]) -> Option<T> {
    let bytes = trim(bytes);
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut value = 0_u64;
    for digit in bytes {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    T::try_from(value).ok()
}

/// Splits at every separator outside of quoted strings and angle brackets. Nothing if a quote or bracket stays open.
pub(crate) fn split(bytes: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    loop {
        if let Some(at) = find(rest, separator)? {
            parts.push(&rest[..at]);
            rest = &rest[at + 1..];
        } else {
            parts.push(rest);
            return Some(parts);
        }
    }
}

/// Where the byte first stands outside of quoted strings and angle brackets. The outer option is nothing if a quote or
/// bracket stays open before that.
#[expect(clippy::option_option, reason = "broken quoting and absence are different answers")]
pub(crate) fn find(bytes: &[u8], wanted: u8) -> Option<Option<usize>> {
    let mut at = 0;
    let mut bracketed = false;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == wanted && !bracketed {
            return Some(Some(at));
        }
        match byte {
            // Inside of angle brackets a quotation mark is an ordinary (if forbidden) byte of the URI.
            b'"' if !bracketed => at += quoted_length(&bytes[at..])? - 1,
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            _ => {}
        }
        at += 1;
    }
    if bracketed { None } else { Some(None) }
}

/// Length of the quoted string at the start, with both its quotation marks.
pub(crate) fn quoted_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'"' => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The content of a quoted string: without its quotation marks, escapes resolved. Other bytes come back as they are.
pub(crate) fn unquote(bytes: &[u8]) -> Vec<u8> {
    let [b'"', inner @ .., b'"'] = bytes else { return bytes.to_vec() };
    let mut text = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            text.push(*byte);
            escaped = false;
        }
    }
    text
}

/// The bytes as a quoted string (RFC 3261 §25.1); line ends, which it cannot hold, become spaces.
pub(crate) fn quote(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for byte in text {
        match byte {
            b'\r' | b'\n' => quoted.push(b' '),
            b'"' | b'\\' | 0..=0x08 | 0x0b..=0x1f | 0x7f => quoted.extend([b'\\', *byte]),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_and_brackets_do_not_split() {
        assert_eq!(split(b"\"a,\\\",\" <b,c>,d", b','), Some(vec![&b"\"a,\\\",\" <b,c>"[..], b"d"]));
        assert_eq!(split(b"\"a,b", b','), None);
        assert_eq!(split(b"<a,b", b','), None);
        assert_eq!(split(b"", b','), Some(vec![&b""[..]]));
    }

    #[test]
    fn quoting_comes_back() {
        for text in [&b"plain"[..], b"with \"quotes\" and \\", b"\x00\x07\x7f", b"\xe9\xff", b""] {
            assert_eq!(unquote(&quote(text)), text);
        }
    }

    #[test]
    fn numbers_do_not_overflow() {
        assert_eq!(number::<u32>(b" 4294967295 "), Some(u32::MAX));
        assert_eq!(number::<u32>(b"4294967296"), None);
        assert_eq!(number::<u64>(b"36893488147419103232"), None);
        assert_eq!(number::<u32>(b"-1"), None);
        assert_eq!(number::<u32>(b""), None);
    }
}
