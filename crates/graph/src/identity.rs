//! Who someone is: `identitySet` and `identity`.

use serde_json::{Map, Value};

use crate::wire::{Bad, Form, Object, Wire, wire};

wire! {
    /// The models know `id` and `displayName` only; the rest travels beside them and is read by bots (contract 4).
    Identity = "identity" {
        id: String = "id",
        display_name: String = "displayName",
        identity_provider: String = "identityProvider",
        tenant_id: String = "tenantId",
    }
}

/// Named identities of one someone. Normally one; a member that the models do not know is kept under its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySet {
    /// `user`, `phone`, `applicationInstance`, …, as the schema spells it, with who it is.
    pub members: Vec<(String, Identity)>,
}

/// The members that a reply shows as null when unset, of any identity set (INV-22).
const KNOWN: [&str; 8] =
    ["application", "applicationInstance", "device", "encrypted", "guest", "onPremises", "phone", "user"];

/// Further members that are recognised in any case.
const RARE: [&str; 3] = ["assertedIdentity", "azureCommunicationServicesUser", "conversation"];

impl IdentitySet {
    pub fn of(member: &str, identity: Identity) -> Self {
        Self { members: vec![(member.to_owned(), identity)] }
    }

    pub fn get(&self, member: &str) -> Option<&Identity> {
        self.members.iter().find(|(name, _)| name == member).map(|(_, identity)| identity)
    }
}

impl Wire for IdentitySet {
    /// Any member that is an object is an identity; what else there is, is not about who it is.
    fn read(value: &Value) -> Result<Self, Bad> {
        let object = Object::of(value)?;
        let mut members = Vec::new();
        for (name, value) in object.members() {
            let known = KNOWN.iter().chain(&RARE).find(|known| known.eq_ignore_ascii_case(name));
            if value.is_null() || (known.is_none() && !value.is_object()) {
                continue;
            }
            let identity = Identity::read(value).map_err(|bad| bad.within(name))?;
            members.push((known.map_or(name, |known| known).to_owned(), identity));
        }
        Ok(Self { members })
    }

    fn write(&self, form: Form) -> Value {
        let mut object = Map::new();
        object.insert("@odata.type".to_owned(), Value::from("#microsoft.graph.identitySet"));
        if form.nulls {
            for name in KNOWN {
                object.insert(name.to_owned(), Value::Null);
            }
        }
        // Unset properties of an identity are left out even in replies: documented replies show them so.
        let sparse = Form { nulls: false, ..form };
        for (name, identity) in &self.members {
            object.insert(name.clone(), identity.write(sparse));
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_phone_comes_inside_a_plain_identity_set() {
        // as the Python SDK writes the fourth example.
        let set = IdentitySet::read(&json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "phone": {"@odata_type": "#microsoft.graph.identity", "id": "+12345678901"},
            "user": null, "endpointType": "default",
        }))
        .unwrap();
        assert_eq!(set.members.len(), 1);
        assert_eq!(set.get("phone").unwrap().id.as_deref(), Some("+12345678901"));
    }

    #[test]
    fn a_provider_is_read_in_either_spelling() {
        //
        for name in ["identityProvider", "identity_provider"] {
            let identity = Identity::read(&json!({"id": "x", name: "AAD"})).unwrap();
            assert_eq!(identity.identity_provider.as_deref(), Some("AAD"));
        }
    }

    #[test]
    fn a_reply_shows_every_member() {
        // INV-9, INV-22
        let identity = Identity { id: Some("+12345678901".to_owned()), ..Identity::default() };
        assert_eq!(
            IdentitySet::of("phone", identity).write(Form::reply(true)),
            json!({
                "@odata.type": "#microsoft.graph.identitySet",
                "user": null, "guest": null, "encrypted": null, "onPremises": null, "applicationInstance": null,
                "application": null, "device": null,
                "phone": {"@odata.type": "#microsoft.graph.identity", "id": "+12345678901"},
            })
        );
    }
}
