//! Name and address: From, To, Contact, Route and their kin (RFC 3261 §20.10).

use super::params::Params;
use super::scan;
use super::uri::Uri;

/// A URI with an optional display name and header parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name, without quotation marks and with escapes resolved. Whatever encoding the peer uses.
    pub display: Option<Vec<u8>>,
    pub uri: Uri,
    /// The header's parameters, not the URI's.
    pub params: Params,
}

impl NameAddr {
    /// An address without display name and parameters.
    pub fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, params: Params::new() }
    }

    /// The same address with a display name.
    pub fn with_display(mut self, display: impl Into<Vec<u8>>) -> NameAddr {
        self.display = Some(display.into());
        self
    }

    /// The same address with this tag.
    pub fn with_tag(mut self, tag: &str) -> NameAddr {
        self.params.set("tag", tag);
        self
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag")
    }

    /// The `q` parameter in thousandths; 1000 when it is absent (RFC 3261 §20.10) and 0 when it is unreadable.
    pub fn q_thousandths(&self) -> u16 {
        let Some(text) = self.params.get("q") else { return 1000 };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = fraction.bytes().chain(*b"000").take(3);
        let value = digits.fold(scan::number::<u16>(whole.as_bytes()).unwrap_or(0).min(1), |value, digit| {
            value * 10 + u16::from(digit.saturating_sub(b'0').min(9))
        });
        value.min(1000)
    }

    /// The `expires` parameter in seconds. One too large for us counts as the largest (RFC 4475 §3.1.2.4).
    pub fn expires(&self) -> Option<u32> {
        read_seconds(self.params.get_bytes("expires")?)
    }

    /// Reads one address.
    pub fn parse(bytes: &[u8]) -> Option<NameAddr> {
        let bytes = scan::trim(bytes);
        let (display, uri, params) = if let Some(open) = find_bracket(bytes)? {
            let close = open + bytes[open..].iter().position(|byte| *byte == b'>')?;
            let display = read_display(scan::trim(&bytes[..open]))?;
            (display, Uri::parse(&bytes[open + 1..close]).ok()?, scan::trim(&bytes[close + 1..]))
        } else {
            // RFC 3261 §20: without brackets, parameters are the header's, and the URI has neither comma, question
            // mark nor semicolon.
            let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
            let uri = scan::trim(&bytes[..end]);
            if uri.contains(&b'?') || uri.contains(&b',') {
                return None;
            }
            (None, Uri::parse(uri).ok()?, &bytes[end..])
        };
        let params = match params {
            [] => Params::new(),
            [b';', rest @ ..] => Params::parse_header(rest)?,
            _ => return None,
        };
        Some(NameAddr { display, uri, params })
    }

    /// The address as a header value; the URI always in brackets.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(display) = &self.display {
            out.extend(scan::quote(display));
            out.push(b' ');
        }
        out.push(b'<');
        out.extend(self.uri.to_bytes());
        out.push(b'>');
        self.params.write(&mut out);
        out
    }
}

impl From<&NameAddr> for Vec<u8> {
    fn from(address: &NameAddr) -> Vec<u8> {
        address.to_bytes()
    }
}

impl From<NameAddr> for Vec<u8> {
    fn from(address: NameAddr) -> Vec<u8> {
        address.to_bytes()
    }
}

/// Reads delta-seconds; digits beyond 2**32-1 count as that.
pub(crate) fn read_seconds(bytes: &[u8]) -> Option<u32> {
    let bytes = scan::trim(bytes);
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(scan::number(bytes).unwrap_or(u32::MAX))
}

/// Where `<` opens outside of a quoted display name. Nothing if quotes stay open.
#[expect(clippy::option_option, reason = "broken quoting and absence are different answers")]
fn find_bracket(bytes: &[u8]) -> Option<Option<usize>> {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'<' => return Some(Some(at)),
            b'"' => at += scan::quoted_length(&bytes[at..])?,
            // Only parameters may follow, and a quoted one of them may hold a bracket.
            b';' => return Some(None),
            _ => at += 1,
        }
    }
    Some(None)
}

/// A quoted string, or words of tokens; bytes above ASCII are let through, as phones send them.
#[expect(clippy::option_option, reason = "an unreadable display name and none are different answers")]
fn read_display(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    match bytes {
        [] => Some(None),
        [b'"', ..] => (scan::quoted_length(bytes) == Some(bytes.len())).then(|| Some(scan::unquote(bytes))),
        words => {
            let legal = |byte: u8| scan::is_token_byte(byte) || byte >= 0x80 || matches!(byte, b' ' | b'\t');
            words.iter().copied().all(legal).then(|| Some(words.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> NameAddr {
        NameAddr::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn all_forms_are_read() {
        let quoted = address("\"A. \\\"G.\\\" <Bell>\" <sip:a@b;lr?x=y> ; tag = 43 ;note=\"<;>\"");
        assert_eq!(quoted.display.as_deref(), Some(&b"A. \"G.\" <Bell>"[..]));
        assert_eq!(quoted.tag(), Some("43"));
        assert!(quoted.uri.is_loose_router());
        assert_eq!(quoted.params.get_unquoted("note").as_deref(), Some(&b"<;>"[..]));
        let bare = address("sip:a@b;tag=1");
        assert_eq!(bare.tag(), Some("1"));
        assert!(bare.uri.params.is_empty());
        assert_eq!(address("caller<sip:a@b>;tag=323").display.as_deref(), Some(&b"caller"[..]));
        assert_eq!(NameAddr::parse(b"J\xf6rg <sip:a@b>").unwrap().display.as_deref(), Some(&b"J\xf6rg"[..]));
    }

    #[test]
    fn broken_ones_are_refused() {
        for text in [
            "",
            "\"Mr. J. User <sip:a@b>",
            "Bell, Alexander <sip:a@b>",
            "\"x\" < sip:a@b >",
            "sip:a@b?Route=%3C",
            "<sip:a@b",
            "<sip:a@b>;;",
            "<sip:a@b>;",
            "<sip:a@b>x",
            "<sip:a@b>;tag=",
            "<sip:a@b>;a=\"b",
        ] {
            assert!(NameAddr::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn q_is_thousandths() {
        for (q, expected) in [("1", 1000), ("1.0", 1000), ("0.33", 330), ("0", 0), ("0.0005", 0), ("7", 1000), ("x", 0)]
        {
            assert_eq!(address(&format!("<sip:a@b>;q={q}")).q_thousandths(), expected, "{q}");
        }
        assert_eq!(address("<sip:a@b>").q_thousandths(), 1000);
    }

    #[test]
    fn display_names_keep_their_bytes() {
        let address = NameAddr::new("sip:a@b".parse().unwrap()).with_display(*b"J\xf6rg \"x\"").with_tag("t");
        assert_eq!(address.to_bytes(), b"\"J\xf6rg \\\"x\\\"\" <sip:a@b>;tag=t");
        assert_eq!(NameAddr::parse(&address.to_bytes()), Some(address));
    }
}
