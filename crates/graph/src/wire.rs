//! How a type is read from JSON and written to it: one table per type, made by the `wire!` macro.

use serde_json::{Map, Value};
use thiserror::Error;

/// A type with a place on the wire.
pub trait Wire: Sized {
    /// Reads what is not null.
    fn read(value: &Value) -> Result<Self, Bad>;
    fn write(&self, form: Form) -> Value;
}

/// Which shape of a resource is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Unset members appear as explicit nulls: so in replies, not in notifications (INV-9).
    pub nulls: bool,
    /// Members that only beta has may appear (CALL-8).
    pub beta: bool,
    /// `running` in place of `Running` (OQ-2).
    pub lower_status: bool,
}

impl Form {
    pub fn reply(beta: bool) -> Self {
        Self { nulls: true, beta, lower_status: false }
    }

    pub fn notice(beta: bool) -> Self {
        Self { nulls: false, beta, lower_status: true }
    }
}

/// What is wrong with a body, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Bad {
    /// As in `participants[0].identity`; empty for the body itself.
    pub path: String,
    pub problem: String,
}

impl Bad {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    pub fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn within(self, outer: &str) -> Self {
        let path = match self.path.chars().next() {
            None => outer.to_owned(),
            Some('[') => format!("{outer}{}", self.path),
            Some(_) => format!("{outer}.{}", self.path),
        };
        Self { path, ..self }
    }
}

/// Reads a body: an empty one is `{}`.
///
/// # Errors
/// `Ok(Err(_))` is a body that is JSON but does not fit; `Err(_)` is one that is no JSON, or nested too deeply.
pub fn parse<T: Wire>(body: &[u8]) -> Result<Result<T, Bad>, Bad> {
    // Some editors of hand-written bodies begin them with a byte order mark.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::read(&Value::Object(Map::new())));
    }
    // `serde_json` gives up at 128 levels, so that neither reading nor dropping can exhaust the stack.
    let value = serde_json::from_slice::<Value>(body)
        .map_err(|error| Bad::new(format!("Unable to read JSON request payload: {error}.")))?;
    Ok(T::read(&value))
}

/// The members of an object, as tolerant as clients are careless.
pub(crate) struct Object<'a> {
    members: &'a Map<String, Value>,
    /// Some member has an underscore: Python's `identity_provider` and `@odata_type`.
    underscored: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn of(value: &'a Value) -> Result<Self, Bad> {
        let members =
            value.as_object().ok_or_else(|| Bad::new(format!("must be an object, not {}", name_of(value))))?;
        Ok(Self { members, underscored: members.keys().any(|name| name.contains('_')) })
    }

    /// `None` where the member is absent or null.
    pub(crate) fn member(&self, name: &str) -> Option<&'a Value> {
        let found = self.members.get(name).filter(|value| !value.is_null());
        if found.is_some() || !self.underscored {
            return found;
        }
        self.members.get(&underscored(name)).filter(|value| !value.is_null())
    }

    pub(crate) fn read<T: Wire>(&self, name: &str) -> Result<Option<T>, Bad> {
        self.member(name).map(T::read).transpose().map_err(|bad| bad.within(name))
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.members.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The name of the type, without `#microsoft.graph.` or `#graph.`, in lower case; empty if it is not given.
    pub(crate) fn odata_type(&self) -> Result<String, Bad> {
        let name = self.read::<String>("@odata.type")?.unwrap_or_default().to_ascii_lowercase();
        let name = name.trim_start_matches('#');
        let name = name.strip_prefix("microsoft.graph.").or_else(|| name.strip_prefix("graph.")).unwrap_or(name);
        Ok(name.to_owned())
    }
}

/// `identityProvider` as `identity_provider`, `@odata.type` as `@odata_type`.
fn underscored(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        match letter {
            '.' => text.push('_'),
            upper if upper.is_ascii_uppercase() => {
                text.push('_');
                text.push(upper.to_ascii_lowercase());
            }
            other => text.push(other),
        }
    }
    text
}

pub(crate) fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a collection",
        Value::Object(_) => "an object",
    }
}

/// An object that is being written.
pub(crate) struct Writer {
    members: Map<String, Value>,
    form: Form,
}

impl Writer {
    pub(crate) fn new(kind: &str, form: Form) -> Self {
        let mut members = Map::new();
        members.insert("@odata.type".to_owned(), Value::from(kind));
        Self { members, form }
    }

    pub(crate) fn put<T: Wire>(&mut self, name: &str, value: Option<&T>, beta_only: bool) {
        if beta_only && !self.form.beta {
            return;
        }
        match value {
            Some(value) => {
                self.members.insert(name.to_owned(), value.write(self.form));
            }
            None if self.form.nulls => {
                self.members.insert(name.to_owned(), Value::Null);
            }
            None => {}
        }
    }

    pub(crate) fn with<T: Wire>(mut self, name: &str, value: Option<&T>, beta_only: bool) -> Self {
        self.put(name, value, beta_only);
        self
    }

    pub(crate) fn done(self) -> Value {
        Value::Object(self.members)
    }
}

impl Wire for String {
    fn read(value: &Value) -> Result<Self, Bad> {
        let text = value.as_str().ok_or_else(|| Bad::new(format!("must be a string, not {}", name_of(value))))?;
        Ok(text.to_owned())
    }

    fn write(&self, _form: Form) -> Value {
        Value::from(self.as_str())
    }
}

impl Wire for bool {
    fn read(value: &Value) -> Result<Self, Bad> {
        value.as_bool().ok_or_else(|| Bad::new(format!("must be true or false, not {}", name_of(value))))
    }

    fn write(&self, _form: Form) -> Value {
        Value::from(*self)
    }
}

impl Wire for i64 {
    /// Numbers may come as strings.
    fn read(value: &Value) -> Result<Self, Bad> {
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        number.ok_or_else(|| Bad::new(format!("must be an integer, not {}", name_of(value))))
    }

    fn write(&self, _form: Form) -> Value {
        Value::from(*self)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(value: &Value) -> Result<Self, Bad> {
        let items =
            value.as_array().ok_or_else(|| Bad::new(format!("must be a collection, not {}", name_of(value))))?;
        items
            .iter()
            .enumerate()
            .map(|(index, item)| T::read(item).map_err(|bad| bad.within(&format!("[{index}]"))))
            .collect()
    }

    fn write(&self, form: Form) -> Value {
        self.iter().map(|item| item.write(form)).collect()
    }
}

impl<T: Wire> Wire for Box<T> {
    fn read(value: &Value) -> Result<Self, Bad> {
        T::read(value).map(Self::new)
    }

    fn write(&self, form: Form) -> Value {
        T::write(self, form)
    }
}

/// A type as a table: its name on the wire, and for each member its field, type and name there. Every member may be
/// absent. `beta` marks what v1.0 does not have.
macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident = $kind:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $member:literal $($beta:ident)?,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$type>,)*
        }

        impl $crate::wire::Wire for $name {
            fn read(value: &serde_json::Value) -> Result<Self, $crate::wire::Bad> {
                let object = $crate::wire::Object::of(value)?;
                Ok(Self { $($field: object.read($member)?,)* })
            }

            fn write(&self, form: $crate::wire::Form) -> serde_json::Value {
                let object = $crate::wire::Writer::new(concat!("#microsoft.graph.", $kind), form);
                $(let object = object.with($member, self.$field.as_ref(), $crate::wire::wire!(@ $($beta)?));)*
                object.done()
            }
        }
    )*};
    (@) => { false };
    (@ beta) => { true };
}
pub(crate) use wire;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_body() {
        let bad = Bad::new("is missing").within("id").within("user").within("[1]").within("participants");
        assert_eq!(bad.to_string(), "participants[1].user.id: is missing");
    }

    #[test]
    fn names_with_underscores_are_recognised() {
        //
        assert_eq!(underscored("identityProvider"), "identity_provider");
        assert_eq!(underscored("@odata.type"), "@odata_type");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
        assert!(parse::<String>(&deep).is_err());
    }
}
