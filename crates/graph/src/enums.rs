//! Enumerations. A member is read in any case and with the underscores that code generators add, and is
//! written exactly as the schema spells it. A value that is no member is an error that names the members.

use serde_json::Value;

use crate::wire::{Bad, Form, Wire, name_of};

macro_rules! enums {
    ($($(#[$doc:meta])* $name:ident { $($member:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($member,)* }

        impl $name {
            /// As the schema spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$member => $text,)* }
            }

            fn find(text: &str) -> Result<Self, Bad> {
                let text = text.trim().trim_end_matches('_');
                $(if text.eq_ignore_ascii_case($text) { return Ok(Self::$member); })*
                Err(Bad::new(format!("'{}' is not one of: {}", shortened(text), [$($text),*].join(", "))))
            }
        }
    )*};
}

macro_rules! plain {
    ($($name:ident)*) => {$(
        impl Wire for $name {
            fn read(value: &Value) -> Result<Self, Bad> {
                Self::find(text_of(value)?)
            }

            fn write(&self, _form: Form) -> Value {
                Value::from(self.as_str())
            }
        }
    )*};
}

fn text_of(value: &Value) -> Result<&str, Bad> {
    value.as_str().ok_or_else(|| Bad::new(format!("must be a string, not {}", name_of(value))))
}

/// What a client sent is repeated in the message, but not at any length.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

enums! {
    CallDirection { Incoming = "incoming", Outgoing = "outgoing", }
    /// `ringing` is beta's only (OQ-23).
    CallState {
        Incoming = "incoming", Establishing = "establishing", Ringing = "ringing", Established = "established",
        Hold = "hold", Transferring = "transferring", TransferAccepted = "transferAccepted",
        Redirecting = "redirecting", Terminating = "terminating", Terminated = "terminated",
        UnknownFutureValue = "unknownFutureValue",
    }
    ChangeType { Created = "created", Updated = "updated", Deleted = "deleted", }
    EndpointType {
        Default = "default", Voicemail = "voicemail", SkypeForBusiness = "skypeForBusiness",
        SkypeForBusinessVoipPhone = "skypeForBusinessVoipPhone", UnknownFutureValue = "unknownFutureValue",
    }
    LobbyBypassScope {
        Organizer = "organizer", Organization = "organization",
        OrganizationAndFederated = "organizationAndFederated", Everyone = "everyone", Invited = "invited",
        OrganizationExcludingGuests = "organizationExcludingGuests", UnknownFutureValue = "unknownFutureValue",
    }
    MediaDirection {
        Inactive = "inactive", SendOnly = "sendOnly", ReceiveOnly = "receiveOnly", SendReceive = "sendReceive",
    }
    MediaState { Active = "active", Inactive = "inactive", UnknownFutureValue = "unknownFutureValue", }
    Modality {
        Unknown = "unknown", Audio = "audio", Video = "video", VideoBasedScreenSharing = "videoBasedScreenSharing",
        Data = "data", ScreenSharing = "screenSharing", UnknownFutureValue = "unknownFutureValue",
    }
    OnlineMeetingPresenters {
        Everyone = "everyone", Organization = "organization", RoleIsPresenter = "roleIsPresenter",
        Organizer = "organizer", UnknownFutureValue = "unknownFutureValue",
    }
    OnlineMeetingRole {
        Attendee = "attendee", Presenter = "presenter", Producer = "producer", Coorganizer = "coorganizer",
        UnknownFutureValue = "unknownFutureValue",
    }
    /// The one enumeration whose members begin with a capital; notifications spell them in lower case (OQ-2).
    OperationStatus { NotStarted = "NotStarted", Running = "Running", Completed = "Completed", Failed = "Failed", }
    RecordingStatus {
        Unknown = "unknown", NotRecording = "notRecording", Recording = "recording", Failed = "failed",
        UnknownFutureValue = "unknownFutureValue",
    }
    RoutingPolicy {
        None = "none", NoMissedCall = "noMissedCall", DisableForwardingExceptPhone = "disableForwardingExceptPhone",
        DisableForwarding = "disableForwarding", PreferSkypeForBusiness = "preferSkypeForBusiness",
        UnknownFutureValue = "unknownFutureValue",
    }
    RoutingType {
        Forwarded = "forwarded", Lookup = "lookup", SelfFork = "selfFork", UnknownFutureValue = "unknownFutureValue",
    }
    Tone {
        Tone0 = "tone0", Tone1 = "tone1", Tone2 = "tone2", Tone3 = "tone3", Tone4 = "tone4", Tone5 = "tone5",
        Tone6 = "tone6", Tone7 = "tone7", Tone8 = "tone8", Tone9 = "tone9", Star = "star", Pound = "pound",
        A = "a", B = "b", C = "c", D = "d", Flash = "flash",
    }
    TranscriptionState {
        NotStarted = "notStarted", Active = "active", Inactive = "inactive",
        UnknownFutureValue = "unknownFutureValue",
    }
}

plain! {
    CallDirection CallState ChangeType EndpointType LobbyBypassScope MediaDirection MediaState Modality
    OnlineMeetingPresenters OnlineMeetingRole RecordingStatus RoutingPolicy RoutingType Tone TranscriptionState
}

impl Wire for OperationStatus {
    fn read(value: &Value) -> Result<Self, Bad> {
        Self::find(text_of(value)?)
    }

    fn write(&self, form: Form) -> Value {
        let text = self.as_str();
        if !form.lower_status {
            return Value::from(text);
        }
        Value::from(format!("{}{}", text[..1].to_ascii_lowercase(), &text[1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_in_any_case_and_written_exactly() {
        //
        for text in ["sendReceive", "SendReceive", "SENDRECEIVE", "sendReceive_"] {
            assert_eq!(MediaDirection::read(&Value::from(text)), Ok(MediaDirection::SendReceive));
        }
        assert_eq!(RoutingPolicy::read(&Value::from("None_")), Ok(RoutingPolicy::None));
        assert_eq!(MediaDirection::SendReceive.write(Form::reply(false)), "sendReceive");
    }

    #[test]
    fn a_status_is_capitalised_in_replies_only() {
        // OQ-2, INV-25
        assert_eq!(OperationStatus::NotStarted.write(Form::reply(true)), "NotStarted");
        assert_eq!(OperationStatus::NotStarted.write(Form::notice(true)), "notStarted");
        assert_eq!(OperationStatus::Running.write(Form::notice(true)), "running");
    }

    #[test]
    fn a_value_that_is_no_member_is_named() {
        let bad = CallDirection::read(&Value::from("sideways")).unwrap_err();
        assert_eq!(bad.to_string(), "'sideways' is not one of: incoming, outgoing");
    }
}
