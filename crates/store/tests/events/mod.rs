//! How a conference begins, for tests that only want something to be written down.

use control::{
    AppId, CallFacts, CallId, ChainId, Event, Identity, Kind, ParticipantId, ScenarioId, Surface, TenantId, Timestamp,
    Who,
};
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp(4_000_000_000_000);

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn opened() -> Event {
    Event::Opened { at: NOW, tenant: TenantId(id(2)), kind: Kind::PeerToPeer, created_by: AppId(id(1)) }
}

pub(crate) fn placed(call: CallId) -> Event {
    let facts = CallFacts {
        app: AppId(id(1)),
        tenant: TenantId(id(2)),
        me: ParticipantId(id(3)),
        identity: Identity::new(Who::Application(AppId(id(1)))),
        callback: "https://bot.example/?web=1".to_owned(),
        surface: Surface::V1,
        scenario: ScenarioId(id(4)),
        chain: ChainId(id(5)),
        delta_roster: false,
        hide_after_escalation: false,
        echo: "{}".to_owned(),
    };
    Event::CallPlaced { call, facts: Box::new(facts), give_up_at: NOW }
}
