//! The five examples of the invite page, each played through the API and checked at every end.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::bot::{invitee, phone, user};
use super::stage::{ADA, BEN, CLEO, DESK, DORA, NUMBER, Person, Stage};
use super::timeline::Timeline;
use super::webhook::Told;

/// One example: what was checked, and what went wrong, if anything did.
#[derive(Debug)]
pub(super) struct Outcome {
    title: &'static str,
    held: Vec<String>,
    failed: Option<String>,
}

impl Outcome {
    pub(super) fn succeeded(&self) -> bool {
        self.failed.is_none()
    }

    pub(super) fn print(&self, timeline: &Timeline) {
        timeline.say("");
        timeline.say(self.title);
        for check in &self.held {
            timeline.check(true, check);
        }
        if let Some(failed) = &self.failed {
            timeline.check(false, failed);
        }
    }
}

pub(super) async fn play_all(stage: &Stage) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    macro_rules! play {
        ($title:literal, $story:ident) => {{
            stage.timeline.title($title);
            let mut story = Story { stage, held: Vec::new(), calls: Vec::new() };
            let failed = story.$story().await.err().map(|error| format!("{error:#}"));
            story.clear().await;
            outcomes.push(Outcome { title: $title, held: story.held, failed });
        }};
    }
    play!("Example 1: invite one participant to an existing call", one_participant);
    play!("Example 2: invite multiple participants to a group call", several_participants);
    play!("Example 3: invite participants to a group call, replacing a peer-to-peer call", replacing);
    play!("Example 4: invite one PSTN participant", a_phone_number);
    play!("Example 5: move one participant from one meeting to another", moving);
    outcomes
}

struct Story<'a> {
    stage: &'a Stage,
    held: Vec<String>,
    calls: Vec<String>,
}

impl Story<'_> {
    /// The page's first example carries a `replacesCallId`: the person is talking to the bot already.
    async fn one_participant(&mut self) -> Result<()> {
        let existing = self.talk(&[DESK]).await?;
        let replaced = self.talk(&[ADA]).await?;
        let rung = self.stage.rings(ADA);
        let who = invitee(user(ADA.id), json!({ "replacesCallId": replaced }));
        let (operation, at) = self.invite(&existing, vec![who]).await?;
        self.completed(&existing, &operation, at).await?;
        self.roster(&existing, &[DESK, ADA]).await?;
        self.ended(&replaced).await?;
        ensure!(self.stage.rings(ADA) == rung, "ada was rung again");
        self.held("ada was re-attached without ringing");
        self.hear_each_other(&[DESK, ADA]).await
    }

    async fn several_participants(&mut self) -> Result<()> {
        let group = self.talk(&[DESK, ADA]).await?;
        let (operation, at) =
            self.invite(&group, vec![invitee(user(BEN.id), json!({})), invitee(user(CLEO.id), json!({}))]).await?;
        self.completed(&group, &operation, at).await?;
        self.roster(&group, &[DESK, ADA, BEN, CLEO]).await?;
        self.hear_each_other(&[DESK, ADA, BEN, CLEO]).await
    }

    async fn replacing(&mut self) -> Result<()> {
        let group = self.talk(&[DESK, BEN]).await?;
        let replaced = self.talk(&[CLEO]).await?;
        let rung = self.stage.rings(CLEO);
        let who = invitee(user(CLEO.id), json!({ "replacesCallId": replaced }));
        let (operation, at) = self.invite(&group, vec![who]).await?;
        let done = self.completed(&group, &operation, at).await?;
        self.roster(&group, &[DESK, BEN, CLEO]).await?;
        let ended = self.ended(&replaced).await?;
        ensure!(ended > done, "the old call's end was told before the operation");
        self.held("the old call was terminated and deleted after the operation had completed");
        ensure!(self.stage.rings(CLEO) == rung, "cleo was rung again");
        self.held("cleo was re-attached without ringing");
        self.hear_each_other(&[DESK, BEN, CLEO]).await
    }

    async fn a_phone_number(&mut self) -> Result<()> {
        let group = self.talk(&[DESK, ADA]).await?;
        let (operation, at) = self.invite(&group, vec![invitee(phone(NUMBER.id), json!({}))]).await?;
        self.completed(&group, &operation, at).await?;
        self.roster(&group, &[DESK, ADA, NUMBER]).await?;
        self.hear_each_other(&[DESK, ADA, NUMBER]).await
    }

    async fn moving(&mut self) -> Result<()> {
        let (source, target) = (self.meet("Source").await?, self.meet("Target").await?);
        for (meeting, people) in [(&source, vec![DORA, CLEO]), (&target, vec![BEN])] {
            let all = people.iter().map(|person| invitee(user(person.id), json!({}))).collect();
            let (operation, at) = self.invite(meeting, all).await?;
            self.completed(meeting, &operation, at).await?;
        }
        self.hear_each_other(&[DORA, CLEO]).await?;
        let there = self.stage.bot.roster(&source).await?;
        let moved =
            there.iter().find(|entry| person_of(entry).as_deref() == Some(CLEO.id)).context("cleo is not there")?;
        let rung = self.stage.rings(CLEO);
        let who = invitee(user(CLEO.id), json!({ "replacesCallId": source, "participantId": moved["id"] }));
        let (operation, at) = self.invite(&target, vec![who]).await?;
        self.completed(&target, &operation, at).await?;
        self.roster(&target, &[BEN, CLEO]).await?;
        self.roster_since(at, &source, &[DORA]).await?;
        ensure!(self.stage.bot.state(&source).await?["state"] == "established", "the source call is gone");
        self.held("the bot's own call in the source meeting stayed up");
        ensure!(self.stage.rings(CLEO) == rung, "cleo was rung again");
        self.held("cleo was moved without ringing");
        self.hear_each_other(&[BEN, CLEO]).await
    }

    // What the stories are made of.

    /// A call in which these people are.
    async fn talk(&mut self, people: &[Person]) -> Result<String> {
        let identities: Vec<_> = people.iter().map(|person| user(person.id)).collect();
        let call = self.stage.bot.call(&identities).await?;
        self.calls.push(call.clone());
        self.state(&call, "established").await?;
        if people.len() > 1 {
            self.roster(&call, people).await?;
        }
        Ok(call)
    }

    async fn meet(&mut self, subject: &str) -> Result<String> {
        let meeting = self.stage.bot.meeting(DESK.id, subject).await?;
        let call = self.stage.bot.join(&meeting).await?;
        self.calls.push(call.clone());
        self.state(&call, "established").await?;
        Ok(call)
    }

    /// The operation, and how much had been told when it was asked for.
    async fn invite(&mut self, call: &str, people: Vec<Value>) -> Result<(String, usize)> {
        let at = self.stage.webhook.count();
        let context = format!("demo {}", self.calls.len());
        let operation = self.stage.bot.invite(call, people, &context).await?;
        ensure!(operation["clientContext"] == context.as_str(), "the client's context did not come back");
        let id = operation["id"].as_str().context("the operation has no id")?;
        Ok((id.to_owned(), at))
    }

    /// The operation's terminal notification; its number.
    async fn completed(&mut self, call: &str, operation: &str, since: usize) -> Result<usize> {
        let resource = format!("/communications/calls/{call}/operations/{operation}");
        let told = self.stage.webhook.wait(since, |told| told.resource == resource).await;
        let (number, told) = told.context("the operation's end was not told")?;
        ensure!(told.change == "deleted", "the operation's end is a {}", told.change);
        if told.data["status"] != "completed" {
            bail!("the operation ended {}", told.data);
        }
        self.held("the operation completed, and the bot was told with a genuine token");
        Ok(number)
    }

    async fn roster(&mut self, call: &str, people: &[Person]) -> Result<()> {
        self.roster_since(0, call, people).await
    }

    /// A roster with exactly these people beside the bot.
    async fn roster_since(&mut self, since: usize, call: &str, people: &[Person]) -> Result<()> {
        let resource = format!("/communications/calls/{call}/participants");
        let mut wanted: Vec<_> = people.iter().map(|person| person.id.to_owned()).collect();
        wanted.sort();
        let is_it = |told: &Told| {
            let mut found: Vec<_> = told.data.as_array().into_iter().flatten().filter_map(person_of).collect();
            found.sort();
            told.resource == resource && found == wanted
        };
        self.stage.webhook.wait(since, is_it).await.context("the roster was not told")?;
        let names: Vec<_> = people.iter().map(|person| person.line).collect();
        self.held(&format!("the roster holds the bot, {}", names.join(", ")));
        Ok(())
    }

    async fn state(&mut self, call: &str, state: &str) -> Result<usize> {
        let resource = format!("/communications/calls/{call}");
        let is_it = |told: &Told| told.resource == resource && told.data["state"] == state;
        let told = self.stage.webhook.wait(0, is_it).await;
        Ok(told.with_context(|| format!("the call did not become {state}"))?.0)
    }

    async fn ended(&mut self, call: &str) -> Result<usize> {
        let number = self.state(call, "terminated").await?;
        self.calls.retain(|theirs| theirs != call);
        self.held("the replaced call was terminated");
        Ok(number)
    }

    /// Everyone hears everyone else, and not himself.
    async fn hear_each_other(&mut self, people: &[Person]) -> Result<()> {
        for listener in people {
            let others: Vec<_> = people.iter().copied().filter(|other| other.line != listener.line).collect();
            let heard = self.stage.hears(*listener, &others).await;
            let heard = heard.with_context(|| format!("{} does not hear just the others", listener.line))?;
            self.held(&heard);
        }
        Ok(())
    }

    /// Hangs up, so that the next example begins in silence.
    async fn clear(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            if let Ok(roster) = self.stage.bot.roster(&call).await {
                for entry in roster.iter().filter(|entry| person_of(entry).is_some()) {
                    let _ = self.stage.bot.remove(&call, &entry["id"]).await;
                }
            }
            // A peer-to-peer call has ended with its peer.
            let _ = self.stage.bot.hang_up(&call).await;
        }
    }

    fn held(&mut self, what: &str) {
        self.held.push(what.to_owned());
    }
}

/// The user or number of a roster entry; none for a bot.
fn person_of(entry: &Value) -> Option<String> {
    let identity = &entry["info"]["identity"];
    let id = identity["user"]["id"].as_str().or_else(|| identity["phone"]["id"].as_str())?;
    Some(id.to_owned())
}
