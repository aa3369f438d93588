//! Telephone keys as named events (RFC 4733).

/// A telephone key, or the hook flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tone(u8);

impl Tone {
    /// The hook flash, event 16.
    pub const FLASH: Self = Self(16);

    /// The tone of an event code (RFC 4733 §3.2), if it is a key or the flash.
    pub const fn from_event(code: u8) -> Option<Self> {
        if code <= 16 { Some(Self(code)) } else { None }
    }

    /// The event code.
    pub const fn event(self) -> u8 {
        self.0
    }

    /// The tone of a key: `0`–`9`, `*`, `#`, `A`–`D` (in any case), `!` for the flash.
    pub fn from_key(key: char) -> Option<Self> {
        KEYS.find(key.to_ascii_uppercase()).map(|index| Self(index as u8))
    }

    /// The key as a character.
    pub fn key(self) -> char {
        char::from(KEYS.as_bytes()[usize::from(self.0)])
    }
}

/// The keys in the order of their event codes.
const KEYS: &str = "0123456789*#ABCD!";
