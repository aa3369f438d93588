//! `GET …/onlineMeetings`, mostly with a `$filter`: a collection, even of one.

use axum::extract::{Path, State};
use control::UserId;
use store::MeetingKey;

use super::view::{join_web_url, view};
use crate::api::error::ApiError;
use crate::api::exchange::{Ask, Reply};
use crate::api::percent;
use crate::api::service::Service;
use crate::auth::Permission;

/// More are not listed.
const LISTED_MAX: usize = 1000;

pub(in crate::api) async fn list(State(service): State<Service>, ask: Ask) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::ReadMeetings, Permission::WriteMeetings])?;
    listed(&ask, &service, None).await
}

pub(in crate::api) async fn list_of_user(
    State(service): State<Service>,
    Path(user): Path<String>,
    ask: Ask,
) -> Result<Reply, ApiError> {
    ask.caller.may(&[Permission::ReadMeetings, Permission::WriteMeetings])?;
    let user = super::user(&ask, &service.directory(), &user)?;
    listed(&ask, &service, Some(user)).await
}

async fn listed(ask: &Ask, service: &Service, organizer: Option<UserId>) -> Result<Reply, ApiError> {
    let mut meetings = match ask.exchange.option("$filter") {
        None => service.store.meetings_of(ask.by().tenant, organizer, LISTED_MAX).await?,
        Some(filter) => {
            let filter = Filter::parse(&filter)
                .ok_or_else(|| ApiError::Unreadable(format!("The query option $filter is not supported: {FILTERS}")))?;
            let found = service.store.meeting(filter.key()).await?;
            let named = |meeting: &store::Meeting| match &filter {
                Filter::JoinWebUrl { url, .. } => {
                    percent::decode(&join_web_url(&ask.exchange, service, meeting)) == percent::decode(url)
                }
                Filter::VtcId(_) | Filter::JoinMeetingId(_) => true,
            };
            let theirs = |meeting: &store::Meeting| organizer.is_none() || meeting.organizer == organizer;
            found.filter(|meeting| named(meeting) && theirs(meeting)).into_iter().collect()
        }
    };
    meetings.retain(|meeting| super::is_theirs(ask, meeting));
    let directory = service.directory();
    let value = meetings.iter().map(|meeting| view(ask, service, &directory, meeting)).collect();
    let context = ask.exchange.context("communications/onlineMeetings");
    Ok(Reply::collection(value, &context).selected(&ask.exchange))
}

const FILTERS: &str =
    "use JoinWebUrl eq '…', VideoTeleconferenceId eq '…' or joinMeetingIdSettings/joinMeetingId eq '…'.";

/// The filters that mean something here.
#[derive(Debug, PartialEq, Eq)]
enum Filter {
    JoinWebUrl { url: String, thread: String },
    VtcId(String),
    JoinMeetingId(String),
}

impl Filter {
    /// Reads `Property eq 'value'`; a quote inside the value is doubled.
    fn parse(text: &str) -> Option<Self> {
        let (property, rest) = text.trim().split_once(char::is_whitespace)?;
        let (operator, value) = rest.trim_start().split_once(char::is_whitespace)?;
        let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'");
        if !operator.eq_ignore_ascii_case("eq") {
            return None;
        }
        match property.to_ascii_lowercase().as_str() {
            "joinweburl" => {
                let plain = percent::decode(&value)?;
                let begin = plain.find("19:")?;
                let end = begin + plain[begin..].find('/').unwrap_or(plain.len() - begin);
                let thread = plain[begin..end].to_owned();
                Some(Self::JoinWebUrl { url: value, thread })
            }
            "videoteleconferenceid" => Some(Self::VtcId(value)),
            "joinmeetingidsettings/joinmeetingid" => Some(Self::JoinMeetingId(value)),
            _ => None,
        }
    }

    fn key(&self) -> MeetingKey {
        match self {
            Self::JoinWebUrl { thread, .. } => MeetingKey::Thread(thread.clone()),
            Self::VtcId(id) => MeetingKey::VtcId(id.clone()),
            Self::JoinMeetingId(id) => MeetingKey::JoinMeetingId(id.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_filters_are_understood() {
        // Contract 3.19.
        assert_eq!(Filter::parse("VideoTeleconferenceId eq '123'"), Some(Filter::VtcId("123".to_owned())));
        assert_eq!(
            Filter::parse("joinMeetingIdSettings/joinMeetingId  EQ  '1234567890'"),
            Some(Filter::JoinMeetingId("1234567890".to_owned()))
        );
        let url = "https://x.example/l/meetup-join/19%3ameeting_a%40thread.v2/0?context=%7b%7d";
        assert_eq!(
            Filter::parse(&format!("JoinWebUrl eq '{url}'")),
            Some(Filter::JoinWebUrl { url: url.to_owned(), thread: "19:meeting_a@thread.v2".to_owned() })
        );
        for other in ["subject eq 'x'", "JoinWebUrl ne 'x'", "JoinWebUrl eq x", ""] {
            assert_eq!(Filter::parse(other), None, "{other}");
        }
    }
}
