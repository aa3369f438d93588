//! Values as people write them: spans of time, ranges of ports and of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, written as a number and a unit: `300ms`, `10s`, `10min`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// UDP ports from `first` to `last`, both included, written `20000-29999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// A range of addresses, written `10.0.0.0/8` or `fd00::/8`; a single address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    /// Leading bits that all its addresses share.
    prefix: u8,
}

/// The longest span anyone may ask for; keeps sums of times far from overflow.
const SPAN_MAX: Duration = Duration::from_hours(24 * 366 * 10);

/// Units in milliseconds, the largest first: a span is printed in the first one that divides it.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a span of time; write 300ms, 10s, 10min, 1h or 7d");
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = match text[digits..].trim() {
            "m" => "min",
            other => other,
        };
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let span = Duration::from_millis(number.checked_mul(*millis).ok_or_else(wrong)?);
        if span > SPAN_MAX {
            return Err(format!("`{text}` is longer than ten years"));
        }
        Ok(Self(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (unit, size) = UNITS
            .iter()
            .find(|(_, size)| millis >= u128::from(*size) && millis.is_multiple_of(u128::from(*size)))
            .unwrap_or(&("s", 1000));
        write!(f, "{}{unit}", millis / u128::from(*size))
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a range of ports; write it as 20000-29999");
        let (first, last) = text.split_once(['-', '–']).ok_or_else(wrong)?;
        let first: u16 = first.trim().parse().map_err(|_| wrong())?;
        let last: u16 = last.trim().parse().map_err(|_| wrong())?;
        if first == 0 || last <= first {
            return Err(wrong());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Network {
    /// An IPv4 address written as one of IPv6 (`::ffff:10.0.0.1`) counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                same_prefix(first.to_bits().into(), address.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                same_prefix(first.to_bits(), address.to_bits(), 128, self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn same_prefix(one: u128, other: u128, width: u8, prefix: u8) -> bool {
    (one ^ other).checked_shr(u32::from(width - prefix)).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no network; write it as 10.0.0.0/8, fd00::/8 or 192.0.2.7");
        let (first, prefix) =
            text.trim().split_once('/').map_or((text.trim(), None), |(first, bits)| (first, Some(bits)));
        let first = first.parse::<IpAddr>().map_err(|_| wrong())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), |bits| bits.parse().map_err(|_| wrong()))?;
        if prefix > width {
            return Err(wrong());
        }
        Ok(Self { first, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

macro_rules! as_text {
    ($($name:ty)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Span PortRange Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for text in ["0s", "300ms", "1500ms", "10s", "90s", "10min", "1h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("2m".parse::<Span>().unwrap().to_string(), "2min");
        for text in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "9999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_is_an_address_and_a_width() {
        let within =
            |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(within("10.0.0.0/8", "10.255.0.1") && !within("10.0.0.0/8", "11.0.0.0"));
        assert!(within("10.1.2.3/8", "10.9.9.9"), "the bits behind the prefix do not count");
        assert!(within("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(within("192.0.2.7", "192.0.2.7") && !within("192.0.2.7", "192.0.2.6"));
        assert!(within("0.0.0.0/0", "203.0.113.1") && !within("0.0.0.0/0", "2001:db8::1"));
        assert!(within("fd00::/8", "fdab::1") && !within("fd00::/8", "fe80::1"));
        assert!(within("::/0", "2001:db8::1"));
        assert_eq!("fd00::/8".parse::<Network>().unwrap().to_string(), "fd00::/8");
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "host", "10.0.0.0/8/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_range_has_two_ends_in_order() {
        assert_eq!("20000-29999".parse(), Ok(PortRange { first: 20_000, last: 29_999 }));
        assert_eq!("1 – 2".parse(), Ok(PortRange { first: 1, last: 2 }));
        for text in ["", "1", "2-1", "0-9", "1-70000"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
