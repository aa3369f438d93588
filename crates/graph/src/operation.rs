//! Long-running work that a client asked for, and what it asked for it with.

use crate::enums::OperationStatus;
use crate::participant::InvitationParticipantInfo;
use crate::wire::wire;

wire! {
    InviteParticipantsOperation = "inviteParticipantsOperation" {
        id: String = "id",
        client_context: String = "clientContext",
        participants: Vec<InvitationParticipantInfo> = "participants",
        result_info: ResultInfo = "resultInfo",
        status: OperationStatus = "status",
    }

    /// The body of `invite`.
    InviteRequest = "inviteRequest" {
        client_context: String = "clientContext",
        participants: Vec<InvitationParticipantInfo> = "participants",
    }

    /// Why something ended as it did. The numbers are integers on the wire, whatever examples print.
    ResultInfo = "resultInfo" {
        code: i64 = "code",
        message: String = "message",
        subcode: i64 = "subcode",
    }
}
