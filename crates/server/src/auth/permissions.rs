//! What a token allows: application permissions, carried in its `roles` (contract 2.4).

use std::fmt;

macro_rules! permissions {
    ($($name:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Permission { $($name,)* }

        impl Permission {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is issued.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

permissions! {
    Initiate = "Calls.Initiate.All",
    InitiateGroupCall = "Calls.InitiateGroupCall.All",
    JoinGroupCall = "Calls.JoinGroupCall.All",
    JoinGroupCallAsGuest = "Calls.JoinGroupCallAsGuest.All",
    JoinGroupCallChat = "Calls.JoinGroupCall.Chat",
    AccessMedia = "Calls.AccessMedia.All",
    ReadMeetings = "OnlineMeetings.Read.All",
    WriteMeetings = "OnlineMeetings.ReadWrite.All",
}

impl Permission {
    /// Reads a role in any case, and in the plural that some pages print.
    pub fn parse(role: &str) -> Option<Self> {
        let role = role.trim().to_ascii_lowercase().replace("groupcalls", "groupcall");
        Self::ALL.iter().copied().find(|permission| permission.as_str().eq_ignore_ascii_case(&role))
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles(u16);

impl Roles {
    pub fn of<'a>(roles: impl IntoIterator<Item = &'a str>) -> Self {
        roles.into_iter().filter_map(Permission::parse).fold(Self::default(), Self::with)
    }

    fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u16)
    }

    pub fn has(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u16 != 0
    }

    pub fn has_any(self, permissions: &[Permission]) -> bool {
        permissions.iter().any(|permission| self.has(*permission))
    }

    /// As they are issued: the singular spellings.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Permission::ALL.iter().filter(move |permission| self.has(**permission)).map(|permission| permission.as_str())
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_in_any_case_and_in_the_plural() {
        let roles = Roles::of(["calls.initiategroupcalls.all", "Calls.JoinGroupCallsAsGuest.All", "Nonsense"]);
        assert_eq!(
            roles.names().collect::<Vec<_>>(),
            ["Calls.InitiateGroupCall.All", "Calls.JoinGroupCallAsGuest.All"]
        );
        assert!(!roles.has(Permission::Initiate));
    }
}
