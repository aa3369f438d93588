//! The body of `POST /calls`: a peer-to-peer call, a group, or a meeting to join (contract 3.2).

use std::time::Duration;

use control::{
    AppId, CallFacts, CallId, Cause, ChainId, Command, ConferenceId, Identity, Invitee, ParticipantId, Reach,
    ScenarioId, TenantId, Who, limits,
};
use engine::Place;
use graph::{ChatInfo, MediaConfig, MeetingInfo, Wire};
use store::{App, Directory, Meeting, MeetingKey};

use super::people::{People, organizer};
use super::{KEPT, PEOPLE_MAX, bad, callback};
use crate::api::error::ApiError;
use crate::api::exchange::Ask;
use crate::api::service::Service;
use crate::auth::{Denial, Permission, fresh_id};

/// The longest `ringingTimeoutInSeconds`.
const RING_MAX_S: i64 = 115;

/// A call about to be placed.
pub(in crate::api) struct Placement {
    pub(in crate::api) call: CallId,
    pub(in crate::api) scenario: ScenarioId,
    pub(in crate::api) place: Place,
    pub(in crate::api) command: Command,
}

/// Reads the body, checks the permission that its kind of call takes, and looks up what it names.
pub(in crate::api) async fn create(ask: &Ask, service: &Service, directory: &Directory) -> Result<Placement, ApiError> {
    let body: graph::Call = ask.json()?;
    permit(ask, &body)?;
    let app = directory.app(ask.by().app).ok_or(Denial::NotRegistered)?;
    if app.callback.is_none() && app.callback_hosts.is_empty() {
        return Err(Denial::NotRegistered.into());
    }
    let tenant = tenant(ask, &body)?;
    let callback = callback::callback(body.callback_uri.clone(), app, &service.settings)?;
    if body.media_config.is_none() {
        return Err(bad("mediaConfig", "is required"));
    }
    if matches!(body.direction, Some(graph::CallDirection::Incoming)) {
        return Err(bad("direction", "must be outgoing"));
    }
    let people = People { directory, app, tenant };
    let identity = source(people, &body)?;
    let (call, me) = (CallId(fresh_id()), ParticipantId(fresh_id()));
    let options = body.call_options.clone().unwrap_or_default();
    let joined = match &body.meeting_info {
        Some(info) => Some(meeting(info, &body, service, tenant).await?),
        None => None,
    };
    let facts = Box::new(CallFacts {
        app: app.id,
        tenant,
        me,
        identity,
        callback,
        surface: ask.exchange.surface,
        scenario: ask.exchange.scenario.unwrap_or_else(|| ScenarioId(fresh_id())),
        chain: body.call_chain_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or_else(|| ChainId(fresh_id())),
        delta_roster: options.is_delta_roster_enabled.unwrap_or(false),
        hide_after_escalation: options.hide_bot_after_escalation.unwrap_or(false),
        echo: echo(&body, joined.as_ref(), ask.exchange.is_beta()),
    });
    let scenario = facts.scenario;
    let (place, command) = if matches!(body.media_config, Some(MediaConfig::AppHosted { .. })) {
        (Place::New(ConferenceId(fresh_id())), without_media(call, facts))
    } else if let Some(joined) = joined {
        let organizer = joined.organizer.map(|user| organizer(directory, tenant, user));
        let meeting = control::Meeting { organizer, created_by: joined.created_by, thread: joined.thread };
        (Place::Meeting(joined.id), Command::Join { call, facts, meeting })
    } else {
        let (ring_for, targets) = (ring_for(&body)?, targets(people, &body)?);
        (Place::New(ConferenceId(fresh_id())), Command::Place { call, facts, targets, ring_for })
    };
    Ok(Placement { call, scenario, place, command })
}

/// OQ-8: a call whose application brings its own media is taken and then fails, by itself: nobody rings, and no meeting
/// sees it come or go. What the blob should hold is Microsoft's own affair, and there is no form of ours.
fn without_media(call: CallId, facts: Box<CallFacts>) -> Command {
    let nobody = Invitee {
        participant: ParticipantId(fresh_id()),
        identity: facts.identity.clone(),
        hidden: false,
        reach: Reach::Impossible(Cause::AppHostedMedia),
        echo: String::new(),
    };
    Command::Place { call, facts, targets: vec![nobody], ring_for: limits::RING_FOR }
}

/// The permission follows from the kind of call (contract 2.4).
fn permit(ask: &Ask, body: &graph::Call) -> Result<(), ApiError> {
    let targets = body.targets.as_ref().map_or(0, Vec::len);
    if body.meeting_info.is_some() {
        let guest = body.source.as_ref().and_then(|source| source.identity.as_ref()?.get("guest")).is_some();
        let guests: &[_] = &[Permission::JoinGroupCallAsGuest];
        let members = &[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest, Permission::JoinGroupCallChat];
        ask.caller.may(if guest { guests } else { members })?;
    } else if targets > 1 {
        ask.caller.may(&[Permission::InitiateGroupCall])?;
    } else {
        ask.caller.may(&[Permission::Initiate])?;
    }
    if matches!(body.media_config, Some(MediaConfig::AppHosted { .. })) {
        ask.caller.may(&[Permission::AccessMedia])?;
    }
    Ok(())
}

/// every tenant that is named must be the token's; none need be.
fn tenant(ask: &Ask, body: &graph::Call) -> Result<TenantId, ApiError> {
    let own = ask.by().tenant;
    let organizer = match &body.meeting_info {
        Some(MeetingInfo::Organizer { organizer: Some(organizer), .. }) => {
            organizer.get("user").and_then(|user| user.tenant_id.as_deref())
        }
        _ => None,
    };
    for named in [body.tenant_id.as_deref(), organizer].into_iter().flatten() {
        match named.trim().parse::<TenantId>() {
            Ok(tenant) if tenant == own => {}
            // Samples send `common` here when they know no better.
            Err(_) if ["common", "organizations", ""].contains(&named.trim()) => {}
            _ => return Err(Denial::OtherTenant.into()),
        }
    }
    Ok(own)
}

/// The application as others see it: as the body says, if it may, else from the token.
fn source(people: People<'_>, body: &graph::Call) -> Result<Identity, ApiError> {
    let App { id, instance, name, number, .. } = people.app;
    let mut own = Identity::new(Who::Application(*id));
    own.display_name = Some(name.clone());
    own.tenant = Some(people.tenant);
    let set = body.source.as_ref().and_then(|source| source.identity.as_ref());
    let Some(set) = set.filter(|set| !set.members.is_empty()) else { return Ok(own) };
    let claims = |member: &str, expected: AppId| {
        let given = set.get(member).and_then(|identity| identity.id.as_deref());
        given.map(|id| id.trim().parse::<AppId>().is_ok_and(|id| id == expected))
    };
    if claims("application", *id) == Some(false) || claims("applicationInstance", *instance) == Some(false) {
        return Err(Denial::SourceInvalid.into());
    }
    if let Some(guest) = set.get("guest") {
        // Several joins of one application differ in who they claim to be.
        own.who = Who::Other { member: "guest".to_owned(), id: guest.id.clone().unwrap_or_else(|| id.to_string()) };
        own.display_name = guest.display_name.clone().or(own.display_name);
        own.tenant = None;
    } else if claims("applicationInstance", *instance).is_some() && number.is_some() {
        own.who = Who::ApplicationInstance(*instance);
    }
    Ok(own)
}

fn targets(people: People<'_>, body: &graph::Call) -> Result<Vec<Invitee>, ApiError> {
    let targets = body.targets.as_deref().unwrap_or_default();
    if targets.is_empty() {
        return Err(bad("targets", "is required, unless meetingInfo names a meeting to join"));
    }
    if targets.len() > PEOPLE_MAX {
        return Err(bad("targets", "has more than 5 members"));
    }
    targets
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let identity = people.identity(target.identity.as_ref(), &format!("targets[{index}].identity"))?;
            Ok(Invitee {
                participant: ParticipantId(fresh_id()),
                reach: people.reach(&identity),
                identity,
                hidden: target.hidden.unwrap_or(false),
                echo: target.write(KEPT).to_string(),
            })
        })
        .collect()
}

fn ring_for(body: &graph::Call) -> Result<Duration, ApiError> {
    match body.ringing_timeout_in_seconds {
        None | Some(0) => Ok(limits::RING_FOR),
        Some(seconds @ 1..=RING_MAX_S) => Ok(Duration::from_secs(seconds.unsigned_abs())),
        Some(_) => Err(bad("ringingTimeoutInSeconds", format!("must be from 1 to {RING_MAX_S}"))),
    }
}

/// The meeting that the body names. One of another tenant is as unknown as one that there is not (CALL-8).
async fn meeting(
    info: &MeetingInfo,
    body: &graph::Call,
    service: &Service,
    tenant: TenantId,
) -> Result<Meeting, ApiError> {
    if body.targets.as_ref().is_some_and(|targets| !targets.is_empty()) {
        return Err(bad("targets", "must be empty when meetingInfo names a meeting to join"));
    }
    let found = |key| async {
        let meeting = service.store.meeting(key).await?;
        Ok::<_, ApiError>(meeting.filter(|meeting| meeting.tenant == tenant))
    };
    match info {
        MeetingInfo::JoinMeetingId { join_meeting_id, passcode, .. } => {
            let id = join_meeting_id.as_deref().unwrap_or_default();
            let digits: String = id.chars().filter(|digit| !digit.is_whitespace()).collect();
            if digits.is_empty() {
                return Err(bad("meetingInfo.joinMeetingId", "is required"));
            }
            let meeting = found(MeetingKey::JoinMeetingId(digits)).await?;
            meeting
                .filter(|meeting| meeting.passcode.is_none() || meeting.passcode == *passcode)
                .ok_or_else(|| ApiError::Numbered("8561", "The meeting id or its passcode is not valid.".to_owned()))
        }
        MeetingInfo::Token { .. } => Err(ApiError::Numbered(
            "8526",
            "The join token is not valid: tokens come with incoming calls, which this server does not offer yet."
                .to_owned(),
        )),
        MeetingInfo::Organizer { organizer, .. } => {
            let thread = body.chat_info.as_ref().and_then(|chat| chat.thread_id.as_deref()).unwrap_or_default();
            if thread.is_empty() {
                return Err(bad("chatInfo.threadId", "is required to join a meeting by its organizer"));
            }
            let named = organizer.as_ref().and_then(|set| set.get("user")?.id.as_deref()?.parse().ok());
            let meeting = found(MeetingKey::Thread(thread.to_owned())).await?;
            let matches = |meeting: &Meeting| match (meeting.organizer, named) {
                (Some(theirs), Some(named)) => theirs == named,
                _ => true,
            };
            meeting.filter(matches).ok_or_else(|| {
                ApiError::Numbered("8527", "There is no meeting with this chatInfo and organizer.".to_owned())
            })
        }
    }
}

/// A meeting's chat, as sent; its thread is known even when the client joined by another name of the meeting.
fn chat(sent: Option<&ChatInfo>, joined: Option<&Meeting>) -> Option<ChatInfo> {
    let Some(joined) = joined else { return sent.cloned() };
    let sent = sent.cloned().unwrap_or_default();
    Some(ChatInfo {
        thread_id: Some(joined.thread.clone()),
        message_id: Some(sent.message_id.unwrap_or_else(|| "0".to_owned())),
        ..sent
    })
}

fn echo(body: &graph::Call, joined: Option<&Meeting>, beta: bool) -> String {
    graph::Call {
        call_options: body.call_options.clone(),
        chat_info: chat(body.chat_info.as_ref(), joined),
        media_config: body.media_config.clone(),
        meeting_info: body.meeting_info.clone(),
        requested_modalities: Some(body.requested_modalities.clone().unwrap_or_default()),
        ringing_timeout_in_seconds: body.ringing_timeout_in_seconds.filter(|_| beta),
        routing_policies: Some(body.routing_policies.clone().unwrap_or_default()),
        subject: body.subject.clone(),
        targets: Some(body.targets.clone().unwrap_or_default()),
        ..graph::Call::default()
    }
    .write(KEPT)
    .to_string()
}
