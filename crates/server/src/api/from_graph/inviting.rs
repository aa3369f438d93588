//! The body of `invite`: who is to be rung, and who is to be fetched from another call (INV-1 to INV-33).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use control::{
    AppId, CallId, Cause, Command, Conference, ConferenceId, Identity, Invite, Invitee, OperationId, ParticipantId,
    Reach, Repeat, TenantId, Timestamp,
};
use engine::CommandError;
use graph::{InvitationParticipantInfo, InviteRequest, Wire};
use store::Directory;

use super::people::People;
use super::{CLIENT_CONTEXT_MAX, KEPT, PEOPLE_MAX, bad};
use crate::api::error::ApiError;
use crate::api::exchange::Ask;
use crate::api::service::Service;
use crate::auth::{Denial, fresh_id};

/// The call that people are invited into.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct InviteTarget {
    created_by: Option<AppId>,
}

impl InviteTarget {
    pub(in crate::api) fn of(conference: &Conference, _now: Timestamp) -> Self {
        Self { created_by: conference.opened().map(|opened| opened.created_by) }
    }
}

/// Reads the body and looks up whom it names.
pub(in crate::api) async fn invite(
    ask: &Ask,
    service: &Service,
    directory: &Directory,
    call: CallId,
    target: &InviteTarget,
) -> Result<Command, ApiError> {
    let mut body: InviteRequest = ask.json()?;
    // INV-33: of the parsed body, so that neither spelling nor order counts.
    let fingerprint = STANDARD_NO_PAD.encode(digest(&SHA256, body.write(KEPT).to_string().as_bytes()));
    let client_context = body.client_context.take();
    // INV-7
    if client_context.as_ref().is_some_and(|context| context.chars().count() > CLIENT_CONTEXT_MAX) {
        return Err(bad("clientContext", "is longer than 256 characters"));
    }
    let participants = body.participants.unwrap_or_default();
    if participants.is_empty() {
        return Err(bad("participants", "must name at least one participant"));
    }
    // INV-12
    if participants.len() > PEOPLE_MAX {
        return Err(bad("participants", "has more than 5 members"));
    }
    let app = directory.app(ask.by().app).ok_or(Denial::NotRegistered)?;
    let people = People { directory, app, tenant: ask.by().tenant };
    let invitees = match fetched(ask, service, people, call, target, &participants).await? {
        Some(only) => vec![only],
        None => rung(people, &participants)?,
    };
    let invite = Invite {
        operation: OperationId(fresh_id()),
        invitees,
        client_context,
        repeat: Repeat { fingerprint, client_request_id: ask.exchange.repeatable_as.clone() },
        retried: ask.exchange.retried,
        policy: service.settings.invite,
    };
    Ok(Command::Invite { call, invite })
}

/// The first invitee, if they come from another call: then nobody else is read (INV-14, INV-19). `None` when everybody
/// is to be rung.
async fn fetched(
    ask: &Ask,
    service: &Service,
    people: People<'_>,
    call: CallId,
    target: &InviteTarget,
    participants: &[InvitationParticipantInfo],
) -> Result<Option<Invitee>, ApiError> {
    let Some(first) = participants.first() else { return Ok(None) };
    let (replaced, moved) = (given(first.replaces_call_id.as_deref()), given(first.participant_id.as_deref()));
    let Some(replaced) = replaced else {
        // INV-20
        return match moved {
            Some(_) => Err(bad("participants[0].replacesCallId", "is required when participantId is given")),
            None => Ok(None),
        };
    };
    let identity = people.identity(first.identity.as_ref(), "participants[0].identity")?;
    let source_call: Option<CallId> = replaced.parse().ok();
    if source_call == Some(call) {
        return Err(bad("participants[0].replacesCallId", "is the call that people are invited into"));
    }
    let source = match source_call {
        Some(source) => look(service, source, &identity, moved).await?,
        None => None,
    };
    let by = ask.by();
    let reach = match (source.filter(|source| source.tenant == by.tenant), moved) {
        // A peer-to-peer call is replaced, whatever else the client sent (INV-15).
        (Some(source), _) if source.peer_to_peer && source.app == by.app && source.is_peer => {
            Some(Reach::Replace { conference: source.conference, call: source.call })
        }
        (Some(source), Some(_)) if !source.peer_to_peer => {
            // INV-18
            if source.app != by.app || source.created_by != Some(by.app) || target.created_by != Some(by.app) {
                return Err(ApiError::Forbidden(
                    "A participant can be moved only between meetings created by the same application.",
                ));
            }
            Some(match source.participant {
                Some(participant) => Reach::Move { conference: source.conference, call: source.call, participant },
                None => Reach::Impossible(Cause::NotInSource),
            })
        }
        // OQ-1: it does not resolve. One alone is never rung; of several, the field is dropped.
        _ if participants.len() == 1 => Some(Reach::Impossible(Cause::NotReplaceable)),
        _ => None,
    };
    Ok(reach.map(|reach| Invitee {
        participant: ParticipantId(fresh_id()),
        identity,
        hidden: first.hidden.unwrap_or(false),
        reach,
        echo: first.write(KEPT).to_string(),
    }))
}

/// What there is to know of the call that an invitee is to come from.
#[derive(Debug)]
struct Source {
    conference: ConferenceId,
    call: CallId,
    app: AppId,
    tenant: TenantId,
    created_by: Option<AppId>,
    peer_to_peer: bool,
    /// The invitee is the far party of the call.
    is_peer: bool,
    /// The invitee is on the roster under the id that was given.
    participant: Option<ParticipantId>,
}

/// `None` where there is no such call, or it has ended.
async fn look(
    service: &Service,
    call: CallId,
    identity: &Identity,
    moved: Option<&str>,
) -> Result<Option<Source>, ApiError> {
    let who = identity.who.clone();
    let moved = moved.and_then(|id| id.trim().parse::<ParticipantId>().ok());
    let peeked = service.engine.peek(call, move |conference, _| {
        let source = conference.call(call)?;
        let mut people = conference.roster().people();
        Some(Source {
            conference: conference.id(),
            call,
            app: source.facts.app,
            tenant: source.facts.tenant,
            created_by: conference.opened().map(|opened| opened.created_by),
            peer_to_peer: conference.is_peer_to_peer(),
            is_peer: people.any(|(_, _, entry)| entry.identity.who == who),
            participant: moved.filter(|id| conference.roster().get(*id).is_some_and(|entry| entry.identity.who == who)),
        })
    });
    match peeked.await {
        Ok(source) => Ok(source),
        Err(CommandError::NoSuchCall) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Everybody, to be rung.
fn rung(people: People<'_>, participants: &[InvitationParticipantInfo]) -> Result<Vec<Invitee>, ApiError> {
    participants
        .iter()
        .enumerate()
        .map(|(index, sent)| {
            let path = format!("participants[{index}]");
            if given(sent.participant_id.as_deref()).is_some() && given(sent.replaces_call_id.as_deref()).is_none() {
                return Err(bad(format!("{path}.replacesCallId"), "is required when participantId is given"));
            }
            let identity = people.identity(sent.identity.as_ref(), &format!("{path}.identity"))?;
            // OQ-1: what did not resolve is not repeated.
            let echo = InvitationParticipantInfo { replaces_call_id: None, participant_id: None, ..sent.clone() };
            Ok(Invitee {
                participant: ParticipantId(fresh_id()),
                reach: people.reach(&identity),
                identity,
                hidden: sent.hidden.unwrap_or(false),
                echo: echo.write(KEPT).to_string(),
            })
        })
        .collect()
}

/// An empty id is as good as none.
fn given(id: Option<&str>) -> Option<&str> {
    id.map(str::trim).filter(|id| !id.is_empty())
}
