//! Who is meant by an `identitySet`, and how that someone is reached.

use control::{AppId, Caller, Cause, Destination, Identity, LegId, PhoneNumber, Reach, Target, TenantId, UserId, Who};
use store::{App, Directory};

use super::bad;
use crate::api::error::ApiError;
use crate::auth::fresh_id;

/// The picture of the directory that one request is resolved against.
#[derive(Clone, Copy)]
pub(super) struct People<'a> {
    pub(super) directory: &'a Directory,
    /// The application that calls, and the tenant it calls in.
    pub(super) app: &'a App,
    pub(super) tenant: TenantId,
}

impl People<'_> {
    /// The one usable member of an identity set. `path` names it in errors.
    pub(super) fn identity(self, set: Option<&graph::IdentitySet>, path: &str) -> Result<Identity, ApiError> {
        let set = set.ok_or_else(|| bad(path, "is required"))?;
        let usable = |identity: &graph::Identity| identity.id.as_ref().is_some_and(|id| !id.trim().is_empty());
        let mut members = set.members.iter().filter(|(_, identity)| usable(identity));
        let Some((member, identity)) = members.next() else {
            return Err(bad(path, "names nobody: give user, phone or another member an id"));
        };
        if let Some((second, _)) = members.next() {
            return Err(bad(path, format!("names both {member} and {second}: give one")));
        }
        self.member(member, identity, &format!("{path}.{member}"))
    }

    fn member(self, member: &str, wire: &graph::Identity, path: &str) -> Result<Identity, ApiError> {
        let given = wire.id.as_deref().unwrap_or_default();
        let guid = || given.trim().parse().map_err(|_| bad(format!("{path}.id"), "is not a GUID"));
        // A tenant that is none is as good as none: what counts is the directory's (INV-24).
        let sent_tenant = wire.tenant_id.as_deref().and_then(|tenant| tenant.trim().parse::<TenantId>().ok());
        let (who, known_name, tenant) = match member {
            "user" => {
                let id = UserId(guid()?);
                let tenant = sent_tenant.unwrap_or(self.tenant);
                let name = self.directory.user(id).filter(|user| user.tenant == tenant).map(|user| user.name.clone());
                (Who::User(id), name, Some(tenant))
            }
            "application" | "applicationInstance" => {
                let id = AppId(guid()?);
                let by_instance = self.directory.app_by_instance(id);
                let app = if member == "application" { self.directory.app(id) } else { by_instance };
                let app = app.filter(|app| app.tenant == self.tenant);
                let who = if member == "application" { Who::Application(id) } else { Who::ApplicationInstance(id) };
                (who, app.map(|app| app.name.clone()), Some(sent_tenant.unwrap_or(self.tenant)))
            }
            "phone" => {
                let number = PhoneNumber::parse(given)
                    .ok_or_else(|| bad(format!("{path}.id"), "is not an E.164 number: + and up to 15 digits"))?;
                (Who::Phone(number), None, None)
            }
            other => (Who::Other { member: other.to_owned(), id: given.to_owned() }, None, sent_tenant),
        };
        let mut identity = Identity::new(who);
        let canonical = crate::api::result::id_of(&identity);
        identity.spelled = (canonical != given).then(|| given.to_owned());
        identity.display_name = known_name.or_else(|| wire.display_name.clone());
        identity.tenant = tenant;
        identity.provider.clone_from(&wire.identity_provider);
        Ok(identity)
    }

    /// How to ring someone, or why that cannot be done.
    pub(super) fn reach(self, identity: &Identity) -> Reach {
        match self.destination(identity) {
            Ok(destination) => Reach::Dial {
                leg: LegId(fresh_id()),
                target: Target { tenant: self.tenant, destination, caller: self.caller() },
            },
            Err(cause) => Reach::Impossible(cause),
        }
    }

    fn destination(self, identity: &Identity) -> Result<Destination, Cause> {
        match &identity.who {
            Who::User(id) => {
                let here = identity.tenant.is_none_or(|tenant| tenant == self.tenant);
                let user = self.directory.user(*id).filter(|user| here && user.tenant == self.tenant);
                let user = user.ok_or(Cause::UnknownUser)?;
                let sip = user.sip.as_ref().ok_or(Cause::NotRegistered)?;
                Ok(Destination::Line { username: sip.username.clone(), domain: self.domain() })
            }
            Who::Phone(number) => {
                // INV-22
                self.app.number.as_ref().ok_or(Cause::NoCallerNumber)?;
                if self.directory.trunks_for(self.tenant, number).is_empty() {
                    return Err(Cause::NoRoute);
                }
                Ok(Destination::Number(number.clone()))
            }
            Who::Application(_) | Who::ApplicationInstance(_) => Err(Cause::BotUnreachable),
            Who::Other { .. } => Err(Cause::Unavailable),
        }
    }

    fn caller(self) -> Caller {
        Caller { display_name: Some(self.app.name.clone()), number: self.app.number.clone(), domain: self.domain() }
    }

    fn domain(self) -> String {
        self.directory.tenant(self.tenant).map(|tenant| tenant.domain.clone()).unwrap_or_default()
    }
}

/// A user as others see the organizer of a meeting.
pub(in crate::api) fn organizer(directory: &Directory, tenant: TenantId, user: UserId) -> Identity {
    let mut identity = Identity::new(Who::User(user));
    identity.display_name = directory.user(user).map(|user| user.name.clone());
    identity.tenant = Some(tenant);
    identity
}
