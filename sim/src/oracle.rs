//! What must be true of every world: while it runs, once it is calm, and when everybody has gone.
//!
//! Three views are compared: what the disk says, what bots were told, what phones believe. What becomes of calls when a
//! process dies is not decided here: they may end or go on, as long as the three agree afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use control::{
    CallId, CallState, Cause, Conference, ConferenceId, Effect, Event, LegAction, LegId, LegState, OperationId,
    ParticipantId, Timestamp,
};
use serde_json::Value;
use store::PendingNotice;
use switch::LegStatistics;

use crate::bot::{Bot, Fetch, What};
use crate::disk::{Disk, Written};
use crate::phone::{Phone, State};

/// What has been seen.
#[derive(Default)]
pub(crate) struct Oracle {
    broken: Vec<String>,
    /// So much of the disk's history was read.
    read: usize,
    operations: BTreeMap<OperationId, Operation>,
    contexts: BTreeMap<String, OperationId>,
    calls: BTreeMap<CallId, Call>,
    dialled: BTreeSet<LegId>,
    connected: BTreeSet<LegId>,
    /// When each dialog was last acknowledged.
    acknowledged: BTreeMap<String, u64>,
    /// Calls of which a process has heard that they ring, or more.
    heard: BTreeSet<String>,
    /// Dialogs that nobody wanted: hung up on in the moment of their acknowledgement.
    unwanted: BTreeSet<String>,
    /// Who is on which roster, over which leg.
    rosters: BTreeMap<(ConferenceId, ParticipantId), LegId>,
}

#[derive(Debug, Default)]
struct Operation {
    context: Option<String>,
    /// `Some(true)`: completed.
    ended: Option<bool>,
    noticed: bool,
    told: bool,
    /// The call that it takes its person from, for good.
    replaces: Option<String>,
}

#[derive(Debug, Default)]
struct Call {
    terminated: bool,
    /// Its end was put into the outbox.
    noticed: bool,
    told: bool,
    /// It ended because another call has its person.
    replaced: bool,
}

/// Laws beyond that many are not listed.
const BROKEN_MAX: usize = 40;

impl Oracle {
    pub(crate) fn broken(&mut self, now: u64, what: String) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push([format!("{now:>7} "), what].concat());
        }
    }

    pub(crate) fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    pub(crate) fn operations(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Reads what was made durable since the last time.
    pub(crate) fn catch_up(&mut self, now: u64, disk: &Disk) {
        let fresh: Vec<Written> = disk.platter().history[self.read..].to_vec();
        self.read += fresh.len();
        for written in fresh {
            for event in &written.events {
                self.happened(now, written.conference, event);
            }
            for (id, notice) in &written.notices {
                let call = self.calls.entry(notice.call).or_default();
                // CALL-2
                if call.noticed {
                    let line = format!("notice {id} of call {} comes after its end", notice.call);
                    self.broken(now, line);
                } else {
                    call.noticed = notice.ends_call;
                }
                if let Some(operation) = notice.settles {
                    let known = self.operations.entry(operation).or_default();
                    // OP-1
                    if std::mem::replace(&mut known.noticed, true) {
                        self.broken(now, format!("operation {operation} is told to have ended twice"));
                    } else if known.ended.is_none() {
                        self.broken(now, format!("operation {operation} is told to have ended, and has not"));
                    }
                }
            }
        }
    }

    fn happened(&mut self, now: u64, conference: ConferenceId, event: &Event) {
        match event {
            Event::OperationStarted { operation, client_context, .. } => {
                let known = Operation { context: client_context.clone(), ..Operation::default() };
                if self.operations.insert(*operation, known).is_some() {
                    self.broken(now, format!("operation {operation} starts twice"));
                }
                if let Some(context) = client_context
                    && let Some(other) = self.contexts.insert(context.clone(), *operation)
                {
                    // INV-33
                    self.broken(now, format!("{context} has begun operations {other} and {operation}"));
                }
            }
            Event::OperationCompleted { operation, .. } => self.operation_ended(now, *operation, true),
            Event::OperationFailed { operation, .. } => self.operation_ended(now, *operation, false),
            Event::CallPlaced { call, .. } => {
                self.calls.entry(*call).or_default();
            }
            Event::CallTerminated { call, because, cause } => {
                let known = self.calls.entry(*call).or_default();
                known.replaced = *cause == Cause::Moved;
                if std::mem::replace(&mut known.terminated, true) {
                    self.broken(now, format!("call {call} is terminated twice"));
                }
                if let Some(operation) = because
                    && self.operations.get(operation).and_then(|known| known.ended) != Some(true)
                {
                    // INV-16
                    self.broken(now, format!("call {call} is dropped for {operation}, which has not completed"));
                }
            }
            Event::LegDialed { leg, .. } => {
                self.dialled.insert(*leg);
            }
            Event::LegConnected { leg, .. } | Event::LegTaken { leg, .. } => {
                self.connected.insert(*leg);
            }
            Event::ParticipantJoined { participant, leg, .. } => {
                let twice = self.rosters.insert((conference, *participant), *leg).is_some();
                if twice {
                    self.broken(now, format!("{participant} joins a conference twice"));
                }
            }
            Event::ParticipantLeft { participant, .. }
                if self.rosters.remove(&(conference, *participant)).is_none() =>
            {
                self.broken(now, format!("{participant} leaves, and was not there"));
            }
            _ => {}
        }
    }

    fn operation_ended(&mut self, now: u64, operation: OperationId, completed: bool) {
        let known = self.operations.entry(operation).or_default();
        if known.ended.replace(completed).is_some() {
            self.broken(now, format!("operation {operation} ends twice"));
        }
    }

    /// Something is about to be done: it must have been written down.
    pub(crate) fn effect(&mut self, now: u64, disk: &Disk, effect: &Effect) {
        self.catch_up(now, disk);
        match effect {
            Effect::Leg(leg, LegAction::Dial(_) | LegAction::DialAgain(_)) if !self.dialled.contains(leg) => {
                self.broken(now, format!("{leg} is dialled before it is written down"));
            }
            Effect::Leg(leg, LegAction::Confirm | LegAction::Resume { .. }) if !self.connected.contains(leg) => {
                self.broken(now, format!("{leg} is gone on with before it is written down"));
            }
            Effect::Mix(plan) => {
                let unknown = plan.ports.iter().find(|port| !self.connected.contains(&port.leg));
                if let Some(port) = unknown {
                    self.broken(now, format!("{} is mixed before it is written down", port.leg));
                }
            }
            Effect::Leg(..) | Effect::Tell { .. } => {}
        }
    }

    /// A phone's message comes to a process.
    pub(crate) fn hears(&mut self, text: &str) {
        if text.starts_with("SIP/2.0 ") && text.contains(" INVITE\r\n") {
            self.heard.insert(call_id_of(text));
        }
    }

    /// The server sends a phone this.
    pub(crate) fn says(&mut self, now: u64, text: &str) {
        let call_id = || call_id_of(text);
        if text.starts_with("ACK ") {
            self.acknowledged.insert(call_id(), now);
        } else if text.starts_with("BYE ") && self.acknowledged.get(&call_id()) == Some(&now) {
            self.unwanted.insert(call_id());
        }
    }

    /// A call was answered as placed.
    pub(crate) fn placed(&mut self, now: u64, disk: &Disk, call: &str) {
        self.catch_up(now, disk);
        if !call.parse().is_ok_and(|call: CallId| self.calls.contains_key(&call)) {
            self.broken(now, format!("call {call} is answered before it is written down"));
        }
    }

    /// An operation was answered as running.
    pub(crate) fn accepted(
        &mut self,
        now: u64,
        disk: &Disk,
        operation: &str,
        call: &str,
        fetch: Option<&Fetch>,
        context: &str,
    ) {
        self.catch_up(now, disk);
        let known = operation.parse().ok().and_then(|id: OperationId| self.operations.get_mut(&id));
        match known {
            Some(known) => {
                let replaces = fetch.filter(|fetch| fetch.participant.is_none()).map(|fetch| fetch.from.clone());
                known.replaces = replaces.filter(|from| from != call);
                if known.context.as_deref() != Some(context) {
                    let line = format!("{operation} answers {context}, and is of {:?}", known.context);
                    self.broken(now, line);
                }
            }
            None => self.broken(now, format!("operation {operation} is answered before it is written down")),
        }
    }

    /// The courier lets a notice go.
    pub(crate) fn sent(&mut self, now: u64, notice: &PendingNotice) {
        if let Some(operation) = notice.notice.after
            && !self.operations.get(&operation).is_some_and(|known| known.told)
        {
            // INV-16, CALL-3
            self.broken(now, format!("notice {} goes out before the end of {operation} was told", notice.id));
        }
    }

    /// A bot takes a notice for the first time.
    pub(crate) fn taken(&mut self, now: u64, bot: &mut Bot, notice: &PendingNotice, told: &Value) {
        let id = notice.notice.call;
        let call = bot.calls.entry(id.to_string()).or_default();
        if call.ended {
            self.broken(now, format!("notice {} of call {id} is told after its end", notice.id));
        }
        // CALL-3
        if notice.id.0 <= call.newest {
            let line = format!("notice {} of call {id} is told after {}", notice.id, call.newest);
            self.broken(now, line);
        }
        call.newest = notice.id.0;
        let resource = told["resource"].as_str().unwrap_or_default();
        let data = &told["resourceData"];
        let deleted = told["changeType"] == "deleted";
        if resource.ends_with("/participants") {
            call.roster_told = true;
            call.is_group = true;
            let is_delta = !data[0]["sequenceNumber"].is_null();
            if is_delta { self.delta(now, bot, id, &data[0]) } else { self.roster(now, bot, id, data) }
        } else if resource.contains("/operations/") {
            let operation = resource.rsplit('/').next().and_then(|id| id.parse::<OperationId>().ok());
            let Some(operation) = operation.filter(|_| deleted) else {
                return self.broken(now, format!("notice {} makes no sense: {told}", notice.id));
            };
            let known = self.operations.entry(operation).or_default();
            let (twice, ended) = (std::mem::replace(&mut known.told, true), known.ended);
            // OP-1
            if twice {
                self.broken(now, format!("the end of operation {operation} is told twice"));
            }
            let status = match ended {
                Some(true) => "completed",
                Some(false) => "failed",
                None => "running",
            };
            if !data["status"].as_str().is_some_and(|told| told.eq_ignore_ascii_case(status)) {
                self.broken(now, format!("operation {operation} has {status}, and {} is told", data["status"]));
            }
        } else {
            let known = self.calls.entry(id).or_default();
            if deleted {
                call.ended = true;
                known.told = true;
                let replaced = known.replaced.then(|| id.to_string());
                let early = self.operations.iter().find(|(_, operation)| {
                    operation.replaces.is_some()
                        && operation.replaces == replaced
                        && operation.ended == Some(true)
                        && !operation.told
                });
                if let Some((operation, _)) = early {
                    // INV-16
                    let line = format!("the end of call {id} is told before that of {operation}, which replaced it");
                    self.broken(now, line);
                }
            } else if data["state"] == "established" {
                call.established = true;
            }
            if !data["chatInfo"].is_null() {
                call.is_group = true;
            }
        }
    }

    /// A whole roster.
    fn roster(&mut self, now: u64, bot: &mut Bot, id: CallId, data: &Value) {
        let Some(call) = bot.calls.get_mut(&id.to_string()) else { return };
        let mut roster = BTreeMap::new();
        let mut newest = call.sequence;
        let mut people = BTreeSet::new();
        for entry in data.as_array().into_iter().flatten() {
            let (participant, who) = (text(&entry["id"]), who(entry));
            let since = entry["rosterSequenceNumber"].as_i64().unwrap_or_default();
            // ROS-4: whoever is new came after everybody who was there.
            if !call.roster.contains_key(&participant) && since <= call.sequence {
                let line = format!("call {id}: {participant} is new with {since} after {}", call.sequence);
                self.broken(now, line);
            }
            newest = newest.max(since);
            // An application may join a meeting as often as it likes.
            if crate::cast::is_person(&who) && !people.insert(who.clone()) {
                self.broken(now, format!("call {id}: {who} is on the roster twice"));
            }
            roster.insert(participant, who);
        }
        call.sequence = newest;
        call.roster = roster;
    }

    /// What changed in it (ROS-3).
    fn delta(&mut self, now: u64, bot: &mut Bot, id: CallId, data: &Value) {
        let Some(call) = bot.calls.get_mut(&id.to_string()) else { return };
        let sequence = data["sequenceNumber"].as_i64().unwrap_or_default();
        if sequence != call.deltas + 1 {
            self.broken(now, format!("call {id}: delta {sequence} follows {}", call.deltas));
        }
        call.deltas = sequence;
        for entry in data["participants"].as_array().into_iter().flatten() {
            let participant = text(&entry["id"]);
            if entry["removedState"].is_null() {
                call.roster.insert(participant, who(entry));
            } else {
                call.roster.remove(&participant);
            }
        }
    }

    /// Once it is calm: the disk, the bots, the switch and the phones say the same.
    pub(crate) fn agreement(
        &mut self,
        now: u64,
        wall: Timestamp,
        disk: &Disk,
        figures: &[LegStatistics],
        heard: &BTreeMap<SocketAddr, (u32, BTreeSet<u32>)>,
        phones: &[Phone],
        bots: &[Bot],
        deaths: u64,
    ) {
        self.catch_up(now, disk);
        let conferences = disk.conferences();
        let mut seats: BTreeMap<LegId, ConferenceId> = BTreeMap::new();
        let mut live: BTreeSet<String> = BTreeSet::new();
        for conference in &conferences {
            self.settled(now, wall, conference);
            for (_, leg, _) in conference.roster().people() {
                if let Some(other) = seats.insert(leg, conference.id()) {
                    self.broken(now, format!("{leg} is on the rosters of {other} and {}", conference.id()));
                }
            }
            for call in conference.calls() {
                live.insert(call.id.to_string());
                self.bot_agrees(now, conference, call, bots);
            }
        }
        for (id, call) in bots.iter().flat_map(|bot| &bot.calls) {
            if !call.ended && !live.contains(id) {
                self.broken(now, format!("call {id} has ended, and its bot was not told"));
            }
        }
        // A call that became a group while it was being replaced goes on for those who have come.
        let groups = conferences.iter().filter(|conference| !conference.is_peer_to_peer());
        let grown: BTreeSet<String> = groups.flat_map(Conference::calls).map(|call| call.id.to_string()).collect();
        for (id, operation) in &self.operations {
            if operation.ended == Some(true)
                && let Some(replaced) = operation.replaces.as_ref()
                && live.contains(replaced)
                && !grown.contains(replaced)
            {
                // INV-16
                self.broken.push(format!("{now:>7} {id} has completed, and call {replaced} is still there"));
            }
        }
        self.switch_agrees(now, &conferences, &seats, figures, phones, deaths);
        self.everybody_hears(now, figures, heard, phones);
    }

    /// Nothing in a conference still waits for anything.
    fn settled(&mut self, now: u64, wall: Timestamp, conference: &Conference) {
        let id = conference.id();
        if conference.deadline().is_some_and(|deadline| wall.since(deadline).as_secs() > 5) {
            self.broken(now, format!("{id}: a deadline has passed and stands"));
        }
        if let Some((participant, _)) = conference.invitations().next() {
            self.broken(now, format!("{id}: {participant} is still expected"));
        }
        if let Some((number, ..)) = conference.outgoing().next() {
            self.broken(now, format!("{id}: message {number} was never acknowledged"));
        }
        for (leg, state) in conference.legs() {
            if !matches!(state.state, LegState::Connected { .. }) {
                let what = match state.state {
                    LegState::Dialing => "is still dialled",
                    LegState::Connected { .. } => "is connected",
                    LegState::Lent { .. } => "is still lent",
                    LegState::Ending { .. } => "is still ending",
                };
                self.broken(now, format!("{id}: {leg} {what}"));
            } else if conference.roster().by_leg(leg).is_none() {
                self.broken(now, format!("{id}: {leg} is connected, and on no roster"));
            }
        }
        for (operation, state) in conference.operations() {
            if state.is_running() {
                self.broken(now, format!("{id}: operation {operation} still runs"));
            }
        }
        for call in conference.calls() {
            if !matches!(call.state, CallState::Established { .. }) {
                self.broken(now, format!("{id}: call {} is still {:?}", call.id, call.state));
            }
        }
        let mut people: Vec<_> = conference.roster().people().map(|(.., entry)| &entry.identity.who).collect();
        let all = people.len();
        people.sort();
        people.dedup();
        if people.len() < all {
            self.broken(now, format!("{id}: somebody is on the roster twice"));
        }
    }

    fn bot_agrees(&mut self, now: u64, conference: &Conference, call: &control::Call, bots: &[Bot]) {
        let id = call.id.to_string();
        let Some(known) = bots.iter().find_map(|bot| bot.calls.get(&id)) else {
            return self.broken(now, format!("call {id} is live, and no bot knows it"));
        };
        if known.ended {
            self.broken(now, format!("call {id} is live, and its bot was told of its end"));
        }
        if known.established != call.is_established() {
            self.broken(now, format!("call {id}: its bot believes established: {}", known.established));
        }
        if conference.is_peer_to_peer() || !call.is_established() {
            return;
        }
        let seen: BTreeSet<String> =
            conference.roster().seen_by(call.facts.me).map(|(participant, _)| participant.to_string()).collect();
        let told: BTreeSet<String> = known.roster.keys().cloned().collect();
        if seen != told {
            self.broken(now, format!("call {id}: the roster is {seen:?}, and its bot was told {told:?}"));
        }
    }

    fn switch_agrees(
        &mut self,
        now: u64,
        conferences: &[Conference],
        seats: &BTreeMap<LegId, ConferenceId>,
        figures: &[LegStatistics],
        phones: &[Phone],
        deaths: u64,
    ) {
        for conference in conferences {
            for port in conference.mix_plan().ports {
                let seated = figures.iter().find(|leg| leg.leg == port.leg);
                if !seated.is_some_and(|leg| leg.attached && leg.conference == conference.id()) {
                    self.broken(now, format!("{} is on a roster, and not in the mix: {seated:?}", port.leg));
                }
            }
        }
        let mut remotes: BTreeSet<SocketAddr> = BTreeSet::new();
        for leg in figures {
            if !seats.contains_key(&leg.leg) {
                self.broken(now, format!("{} is up, and on no roster", leg.leg));
            }
            remotes.insert(leg.remote);
            let phone = phones.iter().find(|phone| phone.address.ip() == leg.remote.ip());
            let believes = phone.is_some_and(|phone| {
                phone.calls.values().any(|call| call.rtp == leg.remote && call.state == State::Talking)
            });
            // Whoever lost power does not know. Only a session timer could tell us; see RFC 4028.
            if !believes && phone.is_none_or(|phone| phone.forgotten == 0) {
                self.broken(now, format!("{} is up, and no phone knows: {}", leg.leg, leg.remote));
            }
        }
        for (index, phone) in phones.iter().enumerate() {
            for call in phone.calls.values() {
                // It answered when nobody wanted it any more, and the process died while it hung up: nothing says that there
                // was such a dialog. That phone finds out when it says something, or when its session is not refreshed.
                let is_forgotten = deaths > 0 && self.unwanted.contains(&call.call_id);
                match call.state {
                    State::Talking if remotes.contains(&call.rtp) => {}
                    State::Talking if is_forgotten => {}
                    // It rings, and not a word of that has arrived: nothing can be cancelled there (RFC 3261 §9.1), and the
                    // process that would have heard of it died. It is what the INVITE's Expires is for.
                    State::Ringing if deaths > 0 && !self.heard.contains(&call.call_id) => {}
                    // It lost its power between the two INVITEs of a call, and took both. Beside an answer nothing of the same
                    // call is cancelled: there are phones that know a CANCEL by its Call-ID alone.
                    State::Ringing if deaths > 0 && phone.has_twice(call) => {}
                    State::Over => {}
                    state @ (State::Ringing | State::Answered | State::Talking | State::Leaving) => {
                        self.broken(
                            now,
                            format!("phone {index} is {state:?} in {}, and nobody is there", call.call_id),
                        );
                    }
                }
            }
        }
    }

    /// Everyone in the room hears everyone else, and nobody himself.
    fn everybody_hears(
        &mut self,
        now: u64,
        figures: &[LegStatistics],
        heard: &BTreeMap<SocketAddr, (u32, BTreeSet<u32>)>,
        phones: &[Phone],
    ) {
        let holds = |remote: &SocketAddr| {
            phones.iter().flat_map(|phone| phone.calls.values()).any(|call| call.rtp == *remote && call.holds)
        };
        for leg in figures.iter().filter(|leg| !holds(&leg.remote)) {
            let Some((_, hears)) = heard.get(&leg.remote) else { continue };
            let others = figures.iter().filter(|other| other.conference == leg.conference && other.leg != leg.leg);
            let speak: BTreeSet<u32> =
                others.filter_map(|other| heard.get(&other.remote)).map(|(tone, _)| *tone).collect();
            if *hears != speak {
                self.broken(now, format!("{} ({}) hears {hears:?} where {speak:?} speak", leg.leg, leg.who));
            }
        }
    }

    /// When everybody has gone.
    pub(crate) fn nothing_is_left(&mut self, now: u64, disk: &Disk, phones: &[Phone], bots: &[Bot]) {
        self.catch_up(now, disk);
        for conference in disk.conferences() {
            let legs: Vec<_> = conference.legs().map(|(id, leg)| (id, &leg.state)).collect();
            self.broken(now, format!("conference {} is still there: {legs:?}", conference.id()));
        }
        let owed = disk.platter().outbox.len();
        if owed > 0 {
            self.broken(now, format!("{owed} notices were not delivered"));
        }
        for (index, phone) in phones.iter().enumerate() {
            for call in phone.calls.values().filter(|call| call.state != State::Over) {
                self.broken(now, format!("phone {index} is still {:?} in {}", call.state, call.call_id));
            }
        }
        let mut broken = Vec::new();
        for (id, call) in &self.calls {
            if !(call.terminated && call.noticed && call.told) {
                broken.push(format!("call {id} has not ended as it must: {call:?}"));
            }
        }
        for (id, operation) in &self.operations {
            if !(operation.ended.is_some() && operation.noticed && operation.told) {
                broken.push(format!("operation {id} has not ended as it must: {operation:?}"));
            }
            // A refused request leaves no trace.
            let asked = bots.iter().flat_map(|bot| bot.asked.values()).find(|asked| {
                matches!(&asked.what, What::Invite { context, .. } if Some(context) == operation.context.as_ref())
            });
            let may = asked.is_some_and(|asked| {
                asked.in_doubt || asked.waiting > 0 || asked.answered.iter().any(|status| *status < 300)
            });
            if !may {
                broken.push(format!("operation {id} was refused, and has begun: {asked:?}"));
            }
        }
        for asked in bots.iter().flat_map(|bot| bot.asked.values()) {
            if asked.waiting > 0 {
                broken.push(format!("a request was never answered: {asked:?}"));
            }
        }
        for (conference, participant) in self.rosters.keys() {
            if self.calls.is_empty() {
                broken.push(format!("{participant} is still on the roster of {conference}"));
            }
        }
        for line in broken {
            self.broken(now, line);
        }
    }
}

fn call_id_of(message: &str) -> String {
    message.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap_or_default().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The id of whoever an entry is about.
fn who(entry: &Value) -> String {
    let identity = &entry["info"]["identity"];
    let members = ["user", "application", "applicationInstance", "guest", "phone"];
    members.iter().find_map(|member| identity[member]["id"].as_str()).unwrap_or_default().to_owned()
}
