//! Credentials out of a message before anybody reads it in a trace.

use super::scan;

const MASK: &[u8] = b"***";

/// The same message with every secret of its authentication headers replaced by `***`: nonces, responses, opaque values
/// and whole credentials of schemes we do not know. The keys of a session description (`inline:` of RFC 4568, `ice-pwd`)
/// go too. User names and realms stay, because they are what one looks for.
pub fn mask_credentials(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = logical_line_length(rest);
        let (line, after) = rest.split_at(length);
        if line.iter().all(|byte| matches!(byte, b'\r' | b'\n')) && !out.is_empty() {
            // The head is over; a body has no authentication headers.
            mask_keys(rest, &mut out);
            return out;
        }
        mask_line(line, &mut out);
        rest = after;
    }
    out
}

fn mask_keys(body: &[u8], out: &mut Vec<u8>) {
    let mut rest = body;
    loop {
        let found = [&b"inline:"[..], b"ice-pwd:"]
            .into_iter()
            .filter_map(|start| memchr::memmem::find(rest, start).map(|at| at + start.len()));
        let Some(at) = found.min() else { break };
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(MASK);
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'|' | b';');
        let end = rest[at..].iter().position(is_end).unwrap_or(rest.len() - at);
        rest = &rest[at + end..];
    }
    out.extend_from_slice(rest);
}

/// Length of a line with its end and its continuation lines.
fn logical_line_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match memchr::memchr(b'\n', &bytes[at..]) {
            Some(end) => at += end + 1,
            None => return bytes.len(),
        }
        let is_empty = matches!(&bytes[..at], b"\n" | b"\r\n");
        if is_empty || !matches!(bytes.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
}

fn mask_line(line: &[u8], out: &mut Vec<u8>) {
    let names =
        ["authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "authentication-info"];
    let colon = memchr::memchr(b':', line);
    let is_secret = colon.is_some_and(|at| {
        let name = scan::trim(&line[..at]);
        names.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
    });
    let (Some(colon), true) = (colon, is_secret) else {
        out.extend_from_slice(line);
        return;
    };
    let (name, value) = line.split_at(colon + 1);
    out.extend_from_slice(name);
    mask_value(value, out);
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
    out.extend_from_slice(&line[end..]);
}

fn mask_value(value: &[u8], out: &mut Vec<u8>) {
    const SHOWN: [&str; 9] = ["username", "realm", "uri", "algorithm", "qop", "nc", "stale", "domain", "userhash"];
    let value = scan::trim(value);
    let gap = value.iter().position(u8::is_ascii_whitespace);
    // Authentication-Info has no scheme; its first word is a parameter.
    let scheme = gap.map(|at| &value[..at]).filter(|word| scan::is_token(word));
    out.push(b' ');
    let params = match scheme {
        Some(scheme) => {
            out.extend_from_slice(scheme);
            out.push(b' ');
            scan::trim(&value[scheme.len()..])
        }
        None => value,
    };
    let is_digest = scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(b"Digest"));
    let Some(parts) = scan::split(params, b',').filter(|_| is_digest) else {
        out.extend_from_slice(MASK);
        return;
    };
    for (index, part) in parts.iter().enumerate() {
        let part = scan::trim(part);
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        let Some(equals) = part.iter().position(|byte| *byte == b'=') else {
            out.extend_from_slice(MASK);
            continue;
        };
        let name = scan::trim(&part[..equals]);
        if SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown.as_bytes())) {
            out.extend_from_slice(part);
        } else {
            out.extend_from_slice(&part[..=equals]);
            out.extend_from_slice(MASK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let message = b"REGISTER sip:x SIP/2.0\r\nauthorization : Digest username=\"a,b\", realm=\"r\", nonce=\"n0\",\r\n response=\"deadbeef\",\r\n\tcnonce=c, opaque=\"o\"\r\nFrom: <sip:a@b>\r\nProxy-Authorization: Basic c2VjcmV0\r\nAuthentication-Info: nextnonce=\"n1\", qop=auth\r\n\r\nAuthorization: in the body\r\n";
        let masked = String::from_utf8(mask_credentials(message)).unwrap();
        assert_eq!(
            masked,
            "REGISTER sip:x SIP/2.0\r\nauthorization : Digest username=\"a,b\", realm=\"r\", nonce=***, response=***, cnonce=***, opaque=***\r\nFrom: <sip:a@b>\r\nProxy-Authorization: Basic ***\r\nAuthentication-Info: nextnonce=***, qop=auth\r\n\r\nAuthorization: in the body\r\n"
        );
    }

    #[test]
    fn media_keys_go_too() {
        let masked =
            mask_credentials(b"x\r\n\r\na=crypto:1 AES inline:a2V5|2^20\r\na=ice-pwd:abc\r\na=crypto:2 AES inline:b");
        assert_eq!(masked, b"x\r\n\r\na=crypto:1 AES inline:***|2^20\r\na=ice-pwd:***\r\na=crypto:2 AES inline:***");
    }

    #[test]
    fn broken_credentials_are_masked_whole() {
        let masked = mask_credentials(b"x\r\nAuthorization: Digest response=\"dead, beef\r\n");
        assert_eq!(masked, b"x\r\nAuthorization: Digest ***\r\n");
        assert_eq!(mask_credentials(b"x\r\nAuthorization:secret\r\n"), b"x\r\nAuthorization: ***\r\n");
        assert_eq!(mask_credentials(b""), b"");
    }
}
