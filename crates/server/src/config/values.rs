//! Values as people write them: spans of time and ranges of ports.

use std::fmt;
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

as_text!(Span PortRange);

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
    fn a_port_range_has_two_ends_in_order() {
        assert_eq!("20000-29999".parse(), Ok(PortRange { first: 20_000, last: 29_999 }));
        assert_eq!("1 – 2".parse(), Ok(PortRange { first: 1, last: 2 }));
        for text in ["", "1", "2-1", "0-9", "1-70000"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
