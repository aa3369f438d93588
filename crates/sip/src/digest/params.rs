//! The parameters of challenges and credentials: `Digest name=value, name="value"`.

use crate::message::scan;

/// One challenge or one set of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AuthParams {
    pub(super) scheme: String,
    list: Vec<(String, Vec<u8>)>,
}

impl AuthParams {
    /// Reads a header line, which may hold several challenges.
    pub(super) fn parse_all(line: &[u8]) -> Vec<AuthParams> {
        let mut all: Vec<AuthParams> = Vec::new();
        let Some(parts) = scan::split(line, b',') else { return all };
        for part in parts.into_iter().map(scan::trim) {
            let equals = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
            // A word before the parameter's name begins another challenge.
            let gap = scan::trim(&part[..equals]).iter().position(u8::is_ascii_whitespace);
            let (scheme, param) = match gap {
                Some(gap) => (scan::token(&part[..gap]), scan::trim(&part[gap..])),
                None if all.is_empty() => (scan::token(part), &b""[..]),
                None => (None, part),
            };
            if let Some(scheme) = scheme {
                all.push(AuthParams { scheme: scheme.to_owned(), list: Vec::new() });
            }
            let Some(last) = all.last_mut() else { return all };
            if let Some(equals) = param.iter().position(|byte| *byte == b'=')
                && let Some(name) = scan::token(&param[..equals])
            {
                last.list.push((name.to_ascii_lowercase(), inner(scan::trim(&param[equals + 1..])).to_vec()));
            }
        }
        all
    }

    /// The value without its quotation marks. Escapes stay, because they are hashed as they are (RFC 7616 §3.4).
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    pub(super) fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }
}

fn inner(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}
