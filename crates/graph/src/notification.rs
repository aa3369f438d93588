//! `commsNotifications`: what is posted to an application's callback.

use serde_json::{Map, Value};

use crate::enums::ChangeType;

/// One notification in its envelope (CALL-4). `path` is relative to the service root, as in `/calls/{id}/participants`:
/// both URL members carry it, without a version (contract 2.7).
pub fn notifications(change: ChangeType, path: &str, data: Value) -> Value {
    let mut notification = Map::new();
    notification.insert("@odata.type".to_owned(), Value::from("#microsoft.graph.commsNotification"));
    notification.insert("changeType".to_owned(), Value::from(change.as_str()));
    notification.insert("resource".to_owned(), Value::from(format!("/app{path}")));
    notification.insert("resourceUrl".to_owned(), Value::from(format!("/communications{path}")));
    notification.insert("resourceData".to_owned(), data);
    let mut envelope = Map::new();
    envelope.insert("@odata.type".to_owned(), Value::from("#microsoft.graph.commsNotifications"));
    envelope.insert("value".to_owned(), Value::Array(vec![Value::Object(notification)]));
    Value::Object(envelope)
}
