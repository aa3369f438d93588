//! Who someone is, and who is asking.

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, TenantId, UserId};

/// Who a participant is, as Graph's `identitySet` with exactly one usable member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub who: Who,
    /// The id as the client wrote it, where that differs from the canonical form (contract Q-19).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spelled: Option<String>,
    /// From the directory, else as the client sent it (INV-24).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Filled in for users and applications, never for phones (INV-24).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Graph's `identityProvider`, echoed as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// Two identities are the same one if their `who` is equal: the rest is decoration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Who {
    User(UserId),
    Application(AppId),
    ApplicationInstance(AppId),
    Phone(PhoneNumber),
    /// A member of the identity set that has an id but no meaning here, such as `encrypted`.
    Other {
        member: String,
        id: String,
    },
}

impl Identity {
    pub fn new(who: Who) -> Self {
        Self { who, spelled: None, display_name: None, tenant: None, provider: None }
    }

    /// A bot: an application or an application instance (INV-6).
    pub fn is_bot(&self) -> bool {
        matches!(self.who, Who::Application(_) | Who::ApplicationInstance(_))
    }

    pub fn is_phone(&self) -> bool {
        matches!(self.who, Who::Phone(_))
    }
}

/// An E.164 number: `+` and 2 to 15 digits (INV-22).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// `None` unless `text` is `+`, a digit that is not 0, and 1 to 14 more digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let well_formed = (2..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        well_formed.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not an E.164 number")
    }
}

/// The application that asks. Whatever it may not see does not exist for it (CALL-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub app: AppId,
    pub tenant: TenantId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_is_e164() {
        // INV-22
        for good in ["+12345678901", "+4930", "+123456789012345"] {
            assert!(PhoneNumber::parse(good).is_some(), "{good}");
        }
        for bad in ["", "+", "12345678901", "+0123", "+1", "+1234567890123456", "+12a4", "+12 34", "tel:+123"] {
            assert!(PhoneNumber::parse(bad).is_none(), "{bad}");
        }
    }
}
