//! Header names: the ones we know by heart, their compact forms, and any other.

use std::fmt;

use super::scan;

macro_rules! header_names {
    ($($variant:ident $name:literal $($compact:literal)?,)+) => {
        /// The name of a header. Names are compared without regard to case, and compact forms are their long forms.
        #[derive(Debug, Clone)]
        pub enum HeaderName {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
            /// Any other, as it was written.
            Other(String),
        }

        impl HeaderName {
            /// The name as we print it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(HeaderName::$variant => $name,)+
                    HeaderName::Other(name) => name,
                }
            }

            fn known(name: &str) -> Option<HeaderName> {
                $(
                    if name.eq_ignore_ascii_case($name) $(|| name.eq_ignore_ascii_case($compact))? {
                        return Some(HeaderName::$variant);
                    }
                )+
                None
            }
        }
    };
}

header_names! {
    // The ones of every message come first, because they are looked for in this order.
    Via "Via" "v",
    From "From" "f",
    To "To" "t",
    CallId "Call-ID" "i",
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    Contact "Contact" "m",
    ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c",
    Allow "Allow",
    Supported "Supported" "k",
    UserAgent "User-Agent",
    RecordRoute "Record-Route",
    Route "Route",
    Require "Require",
    Expires "Expires",
    Authorization "Authorization",
    Accept "Accept",
    AcceptContact "Accept-Contact" "a",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AlertInfo "Alert-Info",
    AllowEvents "Allow-Events" "u",
    AuthenticationInfo "Authentication-Info",
    CallInfo "Call-Info",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" "e",
    ContentLanguage "Content-Language",
    Date "Date",
    Diversion "Diversion",
    ErrorInfo "Error-Info",
    Event "Event" "o",
    FlowTimer "Flow-Timer",
    HistoryInfo "History-Info",
    Identity "Identity" "y",
    InReplyTo "In-Reply-To",
    Join "Join",
    MaxBreadth "Max-Breadth",
    MimeVersion "MIME-Version",
    MinExpires "Min-Expires",
    MinSe "Min-SE",
    Organization "Organization",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    Path "Path",
    Priority "Priority",
    Privacy "Privacy",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    ProxyRequire "Proxy-Require",
    RAck "RAck",
    RSeq "RSeq",
    Reason "Reason",
    ReferTo "Refer-To" "r",
    ReferredBy "Referred-By" "b",
    RejectContact "Reject-Contact" "j",
    RemotePartyId "Remote-Party-ID",
    Replaces "Replaces",
    ReplyTo "Reply-To",
    RequestDisposition "Request-Disposition" "d",
    RetryAfter "Retry-After",
    Server "Server",
    ServiceRoute "Service-Route",
    SessionExpires "Session-Expires" "x",
    SipEtag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    Subject "Subject" "s",
    SubscriptionState "Subscription-State",
    Timestamp "Timestamp",
    Unsupported "Unsupported",
    Warning "Warning",
    WwwAuthenticate "WWW-Authenticate",
}

impl HeaderName {
    /// Reads a name: any token is one.
    pub fn parse(bytes: &[u8]) -> Option<HeaderName> {
        scan::token(bytes).map(HeaderName::from)
    }

    fn is_other(&self) -> bool {
        matches!(self, HeaderName::Other(_))
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &HeaderName) -> bool {
        match (self, other) {
            (HeaderName::Other(ours), HeaderName::Other(theirs)) => ours.eq_ignore_ascii_case(theirs),
            _ => !self.is_other() && std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for HeaderName {}

impl From<&str> for HeaderName {
    /// The name, whose bytes outside of tokens become hyphens: a name cannot end a line.
    fn from(name: &str) -> HeaderName {
        HeaderName::known(name).unwrap_or_else(|| {
            let legal = |byte: u8| if scan::is_token_byte(byte) { char::from(byte) } else { '-' };
            HeaderName::Other(name.bytes().map(legal).collect())
        })
    }
}

impl From<&HeaderName> for HeaderName {
    fn from(name: &HeaderName) -> HeaderName {
        name.clone()
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_and_odd_spellings_are_the_same_header() {
        for (left, right) in [("v", "VIA"), ("I", "call-id"), ("X-Thing", "x-thing"), ("x", "session-expires")] {
            assert_eq!(HeaderName::from(left), HeaderName::from(right));
        }
        assert_ne!(HeaderName::from("X-Thing"), HeaderName::from("X-Other"));
        assert_ne!(HeaderName::from("To"), HeaderName::from("From"));
        assert_eq!(HeaderName::from("a\r\nb").as_str(), "a--b");
        assert_eq!(HeaderName::parse(b"a b"), None);
    }
}
