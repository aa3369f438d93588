//! Parameters: `;name=value` lists of URIs and headers, in order, names without regard to case.

use std::fmt;

use super::scan;

/// An ordered list of parameters. Values keep the form they had on the wire, quotation marks included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    list: Vec<(String, Option<Vec<u8>>)>,
}

impl Params {
    /// No parameters.
    pub fn new() -> Params {
        Params::default()
    }

    /// Reads header parameters: everything after the first `;`, without it.
    pub(crate) fn parse_header(bytes: &[u8]) -> Option<Params> {
        let mut params = Params::new();
        for part in scan::split(bytes, b';')? {
            let (name, value) = match part.iter().position(|byte| *byte == b'=') {
                Some(at) => (&part[..at], Some(scan::trim(&part[at + 1..]))),
                None => (part, None),
            };
            if !value.is_none_or(is_header_value) {
                return None;
            }
            params.list.push((scan::token(name)?.to_owned(), value.map(<[u8]>::to_vec)));
        }
        Some(params)
    }

    /// Reads URI parameters: everything after the first `;`, without it. Empty ones are skipped.
    pub(crate) fn parse_uri(text: &str) -> Option<Params> {
        let mut params = Params::new();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            if name.is_empty() {
                return None;
            }
            params.list.push((name.to_owned(), value.map(|value| value.as_bytes().to_vec())));
        }
        Some(params)
    }

    /// Whether the parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// The value as text. Nothing if the parameter is absent, has no value, or the value is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get_bytes(name)?).ok()
    }

    /// The value as it was on the wire. Nothing if the parameter is absent or has no value.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.list[self.position(name)?].1.as_deref()
    }

    /// The value with quotation marks and escapes resolved.
    pub fn get_unquoted(&self, name: &str) -> Option<Vec<u8>> {
        self.get_bytes(name).map(scan::unquote)
    }

    /// Sets the value, in the place of an older one or at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.put(name, Some(value.into()));
    }

    /// Sets a parameter without a value.
    pub fn set_flag(&mut self, name: &str) {
        self.put(name, None);
    }

    /// Removes the parameter, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.list.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends `;name=value` for each.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.list {
            out.push(b';');
            out.extend_from_slice(name.as_bytes());
            if let Some(value) = value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
    }

    fn put(&mut self, name: &str, value: Option<Vec<u8>>) {
        match self.position(name) {
            Some(at) => self.list[at].1 = value,
            None => self.list.push((name.to_owned(), value)),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

/// A token, a host or a quoted string, generously read: anything without white space, quotes or brackets in it.
fn is_header_value(value: &[u8]) -> bool {
    if value.first() == Some(&b'"') {
        return scan::quoted_length(value) == Some(value.len());
    }
    !value.is_empty() && value.iter().all(|byte| *byte > b' ' && *byte != 0x7f && !b"\"<>,;".contains(byte))
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}
