//! Stories: what came of it when people were called, invited, replaced, moved and lost.

mod stage;

use control::{AppId, Cause, Command, InvitePolicy, Invitee, LegNews, PhoneNumber, Reach, Refusal, Signal, Who};
use stage::{APP, OTHER_APP, Stage, call, conference, invite, leg, moving, person, replacing, ring, snapshot};
use uuid::Uuid;

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn a_peer_to_peer_call_is_told_state_by_state_and_has_no_roster() {
    let mut stage = Stage::new();
    stage.place(1, APP, vec![ring(7)]);
    stage.news(1, 7, LegNews::Ringing);
    stage.news(1, 7, LegNews::Ringing);
    stage.answer(1, 7);
    stage.news(1, 7, LegNews::MediaUp);
    stage.news(1, 7, LegNews::MediaUp);
    // ROS-7; audio becomes active exactly once; ringing is told once.
    let told =
        ["call 1: establishing", "call 1: ringing", "call 1: established", "call 1: audio active=true held=false"];
    assert_eq!(stage.told(), strings(&told));
    assert_eq!(stage.effects(), strings(&["dial 7", "confirm 7", "mix 1 [7]"]));
    assert_eq!(stage.roster(1), [7, 1001]);

    stage.news(1, 7, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    // CALL-2, CALL-5: no terminating, one last notice.
    assert_eq!(stage.told(), strings(&["call 1: terminated PeerHungUp { phone: false }"]));
    assert!(!stage.at(1).is_open());
}

#[test]
fn audio_counts_as_active_two_seconds_after_the_answer_without_a_packet() {
    let mut stage = Stage::new();
    stage.place(1, APP, vec![ring(7)]);
    stage.answer(1, 7);
    stage.told();
    stage.wait(3);
    stage.news(1, 7, LegNews::MediaUp);
    assert_eq!(stage.told(), strings(&["call 1: audio active=true held=false"]));
}

#[test]
fn an_unanswered_call_ends_and_cannot_be_answered_late() {
    let mut stage = Stage::new();
    stage.place(1, APP, vec![ring(7)]);
    stage.wait(61);
    assert_eq!(stage.told(), strings(&["call 1: establishing", "call 1: terminated NoAnswer"]));
    assert_eq!(stage.effects(), strings(&["dial 7", "hang up 7 NoAnswer"]));
    stage.answer(1, 7);
    assert_eq!(stage.told(), strings(&[]));
    stage.news(1, 7, LegNews::HungUp(Cause::Cancelled));
    assert!(!stage.at(1).is_open());
}

#[test]
fn an_application_hangs_up_and_the_phone_confirms() {
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.told();
    stage.effects();
    stage.command(1, APP, Command::HangUp { call: call(1) }).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: terminating"]));
    assert_eq!(stage.effects(), strings(&["hang up 7 HungUpByApp", "mix 1 []"]));
    assert_eq!(stage.invite(1, 1, invite(5, vec![ring(8)])), Err(Refusal::Terminating));
    stage.command(1, APP, Command::HangUp { call: call(1) }).unwrap();
    stage.news(1, 7, LegNews::HungUp(Cause::HungUpByApp));
    assert_eq!(stage.told(), strings(&["call 1: terminated HungUpByApp"]));
    // CALL-7
    assert_eq!(stage.command(1, APP, Command::KeepAlive { call: call(1) }), Err(Refusal::NoSuchCall));
}

#[test]
fn another_applications_call_does_not_exist() {
    // CALL-8
    let mut stage = Stage::new();
    stage.talking(1, 7);
    assert_eq!(stage.command(1, OTHER_APP, Command::HangUp { call: call(1) }), Err(Refusal::NoSuchCall));
}

#[test]
fn a_call_that_is_not_kept_alive_is_ended() {
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.wait(44 * 60);
    stage.command(1, APP, Command::KeepAlive { call: call(1) }).unwrap();
    stage.wait(44 * 60);
    stage.told();
    stage.effects();
    stage.wait(2 * 60);
    assert_eq!(stage.told(), strings(&["call 1: terminated KeepAliveExpired"]));
    assert_eq!(stage.effects(), strings(&["hang up 7 KeepAliveExpired", "mix 1 []"]));
}

#[test]
fn inviting_one_into_a_peer_to_peer_call_makes_it_a_group_call() {
    // INV-31, ROS-8: chat, then the operation, then the whole roster; the leg stays up.
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.told();
    stage.effects();
    stage.invite(1, 1, invite(5, vec![ring(8)])).unwrap();
    assert!(stage.at(1).is_peer_to_peer());
    assert_eq!(stage.roster(1), [7, 1001], "the invitee is not on the roster while it rings");
    stage.news(1, 8, LegNews::Ringing);
    stage.answer(1, 8);
    assert_eq!(stage.told(), strings(&["call 1: chat", "call 1: op 5 completed", "call 1: roster [7, 8, 1001]"]));
    assert_eq!(stage.effects(), strings(&["dial 8", "confirm 8", "mix 1 [7, 8]"]));
}

#[test]
fn a_peer_to_peer_call_stays_one_if_nobody_joins() {
    // INV-31
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.invite(1, 1, invite(5, vec![ring(8)])).unwrap();
    stage.told();
    stage.news(1, 8, LegNews::HungUp(Cause::Declined));
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [Declined]"]));
    assert!(stage.at(1).is_peer_to_peer());
}

#[test]
fn several_invitees_ring_at_once_and_end_as_one_operation() {
    // INV-11, OP-1, OQ-6
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.told();
    stage.effects();
    stage.invite(1, 1, invite(5, vec![ring(9), ring(10), ring(11)])).unwrap();
    assert_eq!(stage.effects(), strings(&["dial 9", "dial 10", "dial 11"]));
    stage.answer(1, 10);
    // INV-10
    assert_eq!(stage.told(), strings(&["call 1: roster [7, 8, 10, 1001]"]));
    stage.news(1, 9, LegNews::HungUp(Cause::Busy));
    assert_eq!(stage.told(), strings(&[]));
    stage.answer(1, 11);
    assert_eq!(stage.told(), strings(&["call 1: op 5 completed", "call 1: roster [7, 8, 10, 11, 1001]"]));
    stage.wait(700);
    assert_eq!(stage.told(), strings(&[]));
}

#[test]
fn an_operator_can_make_one_missing_invitee_a_failure() {
    // OQ-6
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    let strict = InvitePolicy { partial_is_success: false, ..InvitePolicy::default() };
    stage.invite(1, 1, control::Invite { policy: strict, ..invite(5, vec![ring(9), ring(10)]) }).unwrap();
    stage.answer(1, 10);
    stage.told();
    stage.news(1, 9, LegNews::HungUp(Cause::Busy));
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [Busy]"]));
}

#[test]
fn only_a_group_takes_several_at_once() {
    // INV-5
    let mut stage = Stage::new();
    stage.talking(1, 7);
    assert_eq!(stage.invite(1, 1, invite(5, vec![ring(8), ring(9)])), Err(Refusal::NotGroup));
}

#[test]
fn strict_chat_info_restores_the_documented_refusal() {
    // INV-12, OQ-7
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    let strict = InvitePolicy { strict_chat_info: true, ..InvitePolicy::default() };
    let two = control::Invite { policy: strict, ..invite(5, vec![ring(9), ring(10)]) };
    assert_eq!(stage.invite(1, 1, two), Err(Refusal::NoChat));
}

fn bot(n: u128) -> Invitee {
    let mut bot = ring(n);
    bot.identity.who = Who::Application(AppId(Uuid::from_u128(n)));
    bot.reach = Reach::Impossible(Cause::BotUnreachable);
    bot
}

#[test]
fn a_second_bot_is_refused_and_one_is_unreachable() {
    // INV-6, OQ-25
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.told();
    assert_eq!(stage.invite(1, 1, invite(5, vec![bot(50), bot(51)])), Err(Refusal::SecondBot));
    let none = InvitePolicy { invited_bots_max: 0, ..InvitePolicy::default() };
    let one = control::Invite { policy: none, ..invite(5, vec![bot(50)]) };
    assert_eq!(stage.invite(1, 1, one), Err(Refusal::SecondBot));
    stage.invite(1, 1, invite(6, vec![bot(50)])).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 6 failed [BotUnreachable]"]));
}

#[test]
fn nobody_is_invited_twice() {
    // INV-23: on the roster, ringing, or named twice.
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.told();
    stage.effects();
    let again = |n: u128, p: u128| Invitee { participant: person(p), ..ring(n) };
    stage.invite(1, 1, invite(6, vec![again(7, 20), again(9, 21)])).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 6 failed [AlreadyHere, AlreadyHere]"]));
    stage.invite(1, 1, invite(7, vec![ring(10), again(10, 22)])).unwrap();
    assert_eq!(stage.effects(), strings(&["dial 10"]));
    stage.answer(1, 10);
    assert_eq!(stage.told(), strings(&["call 1: op 7 completed", "call 1: roster [7, 8, 10, 1001]"]));
}

#[test]
fn an_invitation_is_safe_to_repeat() {
    // INV-33
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    let mut first = invite(5, vec![ring(9)]);
    first.repeat.client_request_id = Some("r".to_owned());
    stage.invite(1, 1, first.clone()).unwrap();
    stage.effects();
    let repeated = |op: u128| control::Answer::Operation { operation: stage::operation(op), repeated: true };
    let second = control::Invite { operation: stage::operation(6), invitees: vec![ring(90)], ..first.clone() };
    assert_eq!(stage.invite(1, 1, second.clone()).unwrap().answer, repeated(5));
    assert_eq!(stage.effects(), strings(&[]), "nobody rings again");

    stage.answer(1, 9);
    stage.effects();
    stage.wait(9 * 60);
    assert_eq!(stage.invite(1, 1, second.clone()).unwrap().answer, repeated(5));
    let other_request = control::Invite {
        repeat: control::Repeat { client_request_id: Some("s".to_owned()), ..first.repeat.clone() },
        ..second.clone()
    };
    stage.invite(1, 1, other_request).unwrap();
    assert_eq!(stage.effects(), strings(&["dial 90"]), "another request is another invitation");
    stage.news(1, 90, LegNews::HungUp(Cause::Busy));
    stage.wait(2 * 60);
    let third = control::Invite { operation: stage::operation(7), invitees: vec![ring(91)], ..first };
    stage.invite(1, 1, third).unwrap();
    assert!(stage.effects().contains(&"dial 91".to_owned()), "after ten minutes it is forgotten");
}

#[test]
fn a_retry_without_a_request_id_counts_for_three_minutes() {
    // INV-33
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.answer(1, 9);
    stage.effects();
    let retry = control::Invite { operation: stage::operation(6), retried: true, ..invite(5, vec![ring(90)]) };
    stage.wait(170);
    stage.invite(1, 1, retry.clone()).unwrap();
    assert_eq!(stage.effects(), strings(&[]));
    stage.wait(20);
    stage.invite(1, 1, retry).unwrap();
    assert_eq!(stage.effects(), strings(&["dial 90"]));
}

#[test]
fn nobody_is_invited_into_a_call_that_is_not_established() {
    // INV-4, OQ-4
    let mut stage = Stage::new();
    stage.place(1, APP, vec![ring(7), ring(8)]);
    assert_eq!(stage.invite(1, 1, invite(5, vec![ring(9)])), Err(Refusal::NotEstablished));
}

#[test]
fn an_invitee_rings_for_a_minute() {
    // INV-28
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.told();
    stage.wait(59);
    assert_eq!(stage.told(), strings(&[]));
    stage.wait(2);
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [NoAnswer]"]));
}

#[test]
fn removing_a_ringing_invitee_cancels_the_invitation() {
    // INV-29
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.told();
    stage.effects();
    stage.command(1, APP, Command::Remove { call: call(1), participant: person(9) }).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [Cancelled]"]));
    assert_eq!(stage.effects(), strings(&["hang up 9 Cancelled"]));
    // The answer crosses the CANCEL: nobody joins.
    stage.answer(1, 9);
    assert_eq!(stage.roster(1), [7, 8, 1001]);
}

#[test]
fn removing_a_participant_is_told_by_the_roster_alone() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.told();
    stage.command(1, APP, Command::Remove { call: call(1), participant: person(7) }).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: roster [8, 1001]"]));
    let remove = |id| Command::Remove { call: call(1), participant: person(id) };
    assert_eq!(stage.command(1, APP, remove(1001)), Err(Refusal::Myself));
    assert_eq!(stage.command(1, APP, remove(7)), Err(Refusal::NoSuchParticipant));
}

#[test]
fn a_peer_to_peer_call_is_replaced_without_ringing() {
    // INV-15, INV-16: the person is re-attached; the old call ends after success, and is told so after the operation.
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.talking(2, 9);
    stage.told();
    stage.effects();
    stage.invite(1, 1, invite(5, vec![replacing(9, 20, 2, 2)])).unwrap();
    let told = ["call 1: op 5 completed", "call 1: roster [7, 8, 20, 1001]", "call 2: terminated Moved after op 5"];
    assert_eq!(stage.told(), strings(&told));
    assert_eq!(stage.effects(), strings(&["mix 1 [7, 8, 9]", "mix 2 []"]), "no dialling, no hanging up");
    assert!(!stage.at(2).is_open());
    stage.news(1, 9, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    assert_eq!(stage.told(), strings(&["call 1: roster [7, 8, 1001]"]));
}

#[test]
fn a_replaced_call_may_be_a_peer_to_peer_calls_addition() {
    // Example 1: the target is itself peer-to-peer and becomes a group.
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.talking(2, 9);
    stage.told();
    stage.invite(1, 1, invite(5, vec![replacing(9, 20, 2, 2)])).unwrap();
    let told = [
        "call 1: chat",
        "call 1: op 5 completed",
        "call 1: roster [7, 20, 1001]",
        "call 2: terminated Moved after op 5",
    ];
    assert_eq!(stage.told(), strings(&told));
}

#[test]
fn what_cannot_be_replaced_fails_and_leaves_the_old_call_alone() {
    // INV-15, INV-17, OQ-1
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.talking(2, 9);
    stage.told();
    stage.effects();
    stage.invite(1, 1, invite(5, vec![replacing(10, 20, 2, 2)])).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [NotReplaceable]"]));
    stage.invite(1, 1, invite(6, vec![replacing(10, 21, 99, 99)])).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 6 failed [NotReplaceable]"]));
    assert_eq!(stage.effects(), strings(&[]));
    assert_eq!(stage.roster(2), [9, 1002]);
}

#[test]
fn a_participant_moves_between_meetings_and_the_source_stays() {
    // INV-21
    let mut stage = Stage::new();
    stage.join(1, APP, 1);
    stage.join(2, APP, 2);
    stage.invite(2, 2, invite(4, vec![ring(9)])).unwrap();
    stage.answer(2, 9);
    stage.told();
    stage.effects();
    stage.invite(1, 1, invite(5, vec![moving(9, 20, 2, 2)])).unwrap();
    let told = ["call 1: op 5 completed", "call 1: roster [20, 1001]", "call 2: roster [1002]"];
    assert_eq!(stage.told(), strings(&told));
    assert_eq!(stage.effects(), strings(&["mix 1 [9]", "mix 2 []"]));
    assert!(stage.at(2).call(call(2)).is_some());
}

#[test]
fn a_move_of_someone_who_is_not_there_fails() {
    let mut stage = Stage::new();
    stage.join(1, APP, 1);
    stage.join(2, APP, 2);
    stage.told();
    stage.invite(1, 1, invite(5, vec![moving(9, 20, 2, 2)])).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [NotInSource]"]));
}

#[test]
fn meetings_of_another_application_lend_nobody() {
    // INV-18: the meeting was created by APP, the asker is OTHER_APP although it sits in both.
    let mut stage = Stage::new();
    stage.join(1, OTHER_APP, 1);
    stage.join(2, OTHER_APP, 2);
    stage.command(2, OTHER_APP, Command::Invite { call: call(2), invite: invite(4, vec![ring(9)]) }).unwrap();
    stage.answer(2, 9);
    stage.told();
    stage
        .command(1, OTHER_APP, Command::Invite { call: call(1), invite: invite(5, vec![moving(9, 20, 2, 2)]) })
        .unwrap();
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [NotReplaceable]"]));
}

#[test]
fn a_phone_that_hangs_up_while_it_is_moved_is_in_no_roster() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.group(2, &[9, 10]);
    stage.told();
    stage.deliver = false;
    stage.invite(1, 1, invite(5, vec![moving(9, 20, 2, 2)])).unwrap();
    let (from, to, number, borrow) = stage.mail.remove(0);
    stage.signal_to(to, Signal::Told { from, number, message: borrow });
    stage.news(2, 9, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    stage.deliver = true;
    stage.post();
    assert_eq!(stage.roster(1), [7, 8, 1001]);
    assert_eq!(stage.roster(2), [10, 1002]);
    let told = stage.told();
    assert!(told.contains(&"call 1: op 5 completed".to_owned()), "{told:?}");
    assert_eq!(told.last().unwrap(), "call 1: roster [7, 8, 1001]");
}

#[test]
fn a_target_that_gave_up_does_not_get_the_leg() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.group(2, &[9, 10]);
    stage.deliver = false;
    stage.invite(1, 1, invite(5, vec![moving(9, 20, 2, 2)])).unwrap();
    stage.told();
    stage.wait(11);
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [NotReplaceable]"]));
    stage.deliver = true;
    stage.post();
    assert_eq!(stage.roster(2), [9, 10, 1002]);
    assert!(matches!(stage.at(2).leg(leg(9)).unwrap().state, control::LegState::Connected { .. }));
}

#[test]
fn a_lender_that_hears_nothing_asks_and_keeps_the_leg() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.group(2, &[9, 10]);
    stage.deliver = false;
    stage.invite(1, 1, invite(5, vec![moving(9, 20, 2, 2)])).unwrap();
    let (from, to, number, borrow) = stage.mail.remove(0);
    stage.signal_to(to, Signal::Told { from, number, message: borrow });
    let being_moved = Command::Remove { call: call(2), participant: person(9) };
    assert_eq!(stage.command(2, APP, being_moved), Err(Refusal::Busy));
    stage.mail.clear();
    stage.wait(11);
    stage.wait(5);
    stage.deliver = true;
    stage.post();
    assert!(matches!(stage.at(2).leg(leg(9)).unwrap().state, control::LegState::Connected { .. }));
}

#[test]
fn messages_are_taken_once() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.talking(2, 9);
    stage.deliver = false;
    stage.invite(1, 1, invite(5, vec![replacing(9, 20, 2, 2)])).unwrap();
    let (from, to, number, borrow) = stage.mail.remove(0);
    stage.signal_to(to, Signal::Told { from, number, message: borrow.clone() });
    let events = stage.events.len();
    stage.signal_to(to, Signal::Told { from, number, message: borrow });
    assert_eq!(stage.events.len(), events);
}

#[test]
fn a_replaced_call_that_was_deleted_meanwhile_ends_once() {
    // The bot deletes the old call itself while the move is under way (contract 3.1.5).
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.talking(2, 9);
    stage.told();
    stage.deliver = false;
    stage.invite(1, 1, invite(5, vec![replacing(9, 20, 2, 2)])).unwrap();
    let (from, to, number, borrow) = stage.mail.remove(0);
    stage.signal_to(to, Signal::Told { from, number, message: borrow });
    stage.command(2, APP, Command::HangUp { call: call(2) }).unwrap();
    stage.deliver = true;
    stage.post();
    let told = stage.told();
    let ends: Vec<_> = told.iter().filter(|line| line.starts_with("call 2: terminated")).collect();
    assert_eq!(ends, ["call 2: terminated Moved after op 5"]);
    assert_eq!(stage.roster(1), [7, 8, 20, 1001]);
}

#[test]
fn a_group_lives_on_without_the_application_while_people_talk() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.told();
    stage.effects();
    stage.command(1, APP, Command::HangUp { call: call(1) }).unwrap();
    assert_eq!(stage.told(), strings(&["call 1: terminating", "call 1: terminated HungUpByApp"]));
    assert_eq!(stage.effects(), strings(&[]));
    stage.news(1, 7, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    assert_eq!(stage.effects(), strings(&["hang up 8 Alone", "mix 1 []"]));
    stage.news(1, 8, LegNews::HungUp(Cause::Alone));
    assert!(!stage.at(1).is_open());
}

#[test]
fn an_application_alone_in_an_ad_hoc_group_is_ended_and_in_a_meeting_not() {
    // CALL-6, OQ-12
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.join(2, APP, 2);
    stage.news(1, 7, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    stage.news(1, 8, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    stage.told();
    stage.wait(61);
    assert_eq!(stage.told(), strings(&["call 1: terminated Alone"]));
}

#[test]
fn operations_fail_before_their_call_ends() {
    // OP-4
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.told();
    stage.command(1, APP, Command::HangUp { call: call(1) }).unwrap();
    let told = ["call 1: terminating", "call 1: op 5 failed by HungUpByApp", "call 1: terminated HungUpByApp"];
    assert_eq!(stage.told(), strings(&told));
}

#[test]
fn a_server_that_stops_or_falls_fails_operations_ends_calls_and_hangs_every_phone_up() {
    for (signal, cause) in [(Signal::Stopping, "ServiceRestarted"), (Signal::Fell, "Internal")] {
        let mut stage = Stage::new();
        stage.group(1, &[7, 8]);
        stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
        stage.told();
        stage.effects();
        stage.signal_to(conference(1), signal);
        assert_eq!(stage.told(), [format!("call 1: op 5 failed by {cause}"), format!("call 1: terminated {cause}")]);
        let hung = [format!("hang up 7 {cause}"), format!("hang up 8 {cause}")];
        assert_eq!(stage.effects(), ["hang up 9 Cancelled", &hung[0], &hung[1], "mix 1 []"]);
        for n in [7, 8, 9] {
            stage.news(1, n, LegNews::HungUp(Cause::Cancelled));
        }
        assert!(!stage.at(1).is_open());
    }
}

#[test]
fn a_restart_takes_every_leg_up_again_and_tells_nobody() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8, 6]);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.command(1, APP, Command::Remove { call: call(1), participant: person(6) }).unwrap();
    stage.told();
    stage.effects();
    stage.signal_to(conference(1), Signal::Restarted);
    assert_eq!(stage.told(), strings(&[]), "CALL-2");
    let taken_up = ["hang up 6 Removed", "resume 7 dialog 7", "resume 8 dialog 8", "dial 9 again", "mix 1 [7, 8]"];
    assert_eq!(stage.effects(), strings(&taken_up));
    stage.news(1, 7, LegNews::Resumed(snapshot(77)));
    assert_eq!(stage.at(1).leg(leg(7)).unwrap().snapshot(), Some(&snapshot(77)));
    stage.news(1, 8, LegNews::Resumed(snapshot(88)));
    // The operation that was under way ends as if nothing had been.
    stage.answer(1, 9);
    assert_eq!(stage.told(), strings(&["call 1: op 5 completed", "call 1: roster [7, 8, 9, 1001]"]));
    stage.wait(120);
    assert_eq!(stage.roster(1), [7, 8, 9, 1001], "a leg that was taken up has no deadline");
}

#[test]
fn a_leg_that_is_not_taken_up_leaves_as_its_phone_would() {
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.talking(2, 9);
    stage.told();
    for id in [1, 2] {
        stage.signal_to(conference(id), Signal::Restarted);
    }
    stage.effects();
    // Its phone hung up meanwhile.
    stage.news(1, 7, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    assert_eq!(stage.told(), strings(&["call 1: roster [8, 1001]"]));
    // Nobody ever says what became of the others: that is no reason to wait for ever.
    stage.wait(59);
    assert_eq!(stage.told(), strings(&[]));
    stage.wait(1);
    assert_eq!(
        stage.effects(),
        strings(&["mix 1 [8]", "hang up 8 NoSignalling", "mix 1 []", "hang up 9 NoSignalling", "mix 2 []"])
    );
    assert_eq!(stage.told(), strings(&["call 1: roster [1001]", "call 2: terminated NoSignalling"]));
}

#[test]
fn deadlines_keep_their_time_over_a_restart() {
    // INV-28
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.wait(40);
    stage.signal_to(conference(1), Signal::Restarted);
    stage.news(1, 7, LegNews::Resumed(snapshot(7)));
    stage.told();
    stage.wait(20);
    assert_eq!(stage.told(), strings(&["call 1: op 5 failed [NoAnswer]"]));
    // Whoever was to ring until a time that has passed does not ring again.
    stage.invite(1, 1, invite(6, vec![ring(8)])).unwrap();
    stage.effects();
    stage.now = stage.now + std::time::Duration::from_secs(90);
    stage.signal_to(conference(1), Signal::Restarted);
    stage.signal_to(conference(1), Signal::Time);
    let effects = stage.effects();
    assert!(!effects.contains(&"dial 8 again".to_owned()), "{effects:?}");
    assert!(effects.contains(&"hang up 8 NoAnswer".to_owned()), "{effects:?}");
}

#[test]
fn a_leg_that_was_lent_when_the_process_died_is_taken_up_by_both_and_ends_in_one() {
    // INV-21
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.talking(2, 9);
    stage.deliver = false;
    stage.invite(2, 2, invite(5, vec![moving(7, 70, 1, 1)])).unwrap();
    let (from, to, number, message) = stage.mail.remove(0);
    stage.signal_to(to, Signal::Told { from, number, message });
    let (from, to, number, message) = stage.mail.remove(0);
    stage.signal_to(to, Signal::Told { from, number, message });
    // Taken over there, still lent here.
    stage.effects();
    stage.mail.clear();
    for id in [1, 2] {
        stage.signal_to(conference(id), Signal::Restarted);
    }
    let resumed = stage.effects().into_iter().filter(|effect| effect == "resume 7 dialog 7").count();
    assert_eq!(resumed, 2);
    for id in [1, 2] {
        stage.news(id, 7, LegNews::Resumed(snapshot(7)));
        for n in [8, 9] {
            stage.news(id, n, LegNews::Resumed(snapshot(n)));
        }
    }
    stage.deliver = true;
    stage.wait(60);
    stage.post();
    assert_eq!(stage.roster(1), [8, 1001]);
    assert_eq!(stage.roster(2), [9, 70, 1002]);
}

#[test]
fn an_application_that_asks_for_deltas_gets_everybody_first_and_changes_after() {
    // ROS-3
    let mut stage = Stage::new();
    let mut facts = stage::facts(APP, 1);
    facts.delta_roster = true;
    let meeting = control::Meeting { organizer: None, created_by: APP, thread: "t".to_owned() };
    stage.command(1, APP, Command::Join { call: call(1), facts, meeting }).unwrap();
    stage.invite(1, 1, invite(5, vec![ring(9)])).unwrap();
    stage.answer(1, 9);
    stage.news(1, 9, LegNews::HungUp(Cause::PeerHungUp { phone: false }));
    let told: Vec<_> = stage.told().into_iter().filter(|line| line.contains("delta")).collect();
    assert_eq!(told, ["call 1: delta 1 [1001] -[]", "call 1: delta 2 [9] -[]", "call 1: delta 3 [] -[9]"]);
}

#[test]
fn hidden_participants_are_in_nobodys_roster() {
    // ROS-6
    let mut stage = Stage::new();
    stage.group(1, &[7, 8]);
    stage.told();
    stage.invite(1, 1, invite(5, vec![Invitee { hidden: true, ..ring(9) }])).unwrap();
    stage.answer(1, 9);
    assert_eq!(stage.told(), strings(&["call 1: op 5 completed", "call 1: roster [7, 8, 1001]"]));
}

#[test]
fn a_bot_that_wants_to_be_hidden_after_escalation_is() {
    // INV-31, ROS-6: it still sees itself.
    let mut stage = Stage::new();
    let mut facts = stage::facts(APP, 1);
    facts.hide_after_escalation = true;
    let ring_for = std::time::Duration::from_mins(1);
    stage.command(1, APP, Command::Place { call: call(1), facts, targets: vec![ring(7)], ring_for }).unwrap();
    stage.answer(1, 7);
    stage.invite(1, 1, invite(5, vec![ring(8)])).unwrap();
    stage.answer(1, 8);
    assert!(stage.at(1).roster().get(person(1001)).unwrap().hidden);
    assert_eq!(stage.told().last().unwrap(), "call 1: roster [7, 8, 1001]");
}

#[test]
fn a_group_is_established_by_its_first_answer_and_ends_if_all_fail() {
    let mut stage = Stage::new();
    stage.place(1, APP, vec![ring(7), ring(8)]);
    stage.news(1, 7, LegNews::HungUp(Cause::Busy));
    stage.answer(1, 8);
    let told = ["call 1: establishing", "call 1: established", "call 1: roster [8, 1001]"];
    assert_eq!(stage.told(), strings(&told));

    stage.place(2, APP, vec![ring(17), ring(18)]);
    stage.news(2, 17, LegNews::HungUp(Cause::Busy));
    stage.news(2, 18, LegNews::HungUp(Cause::Declined));
    assert_eq!(stage.told(), strings(&["call 2: establishing", "call 2: terminated Declined"]));
}

#[test]
fn a_meeting_opens_again_after_everybody_left() {
    let mut stage = Stage::new();
    stage.join(1, APP, 2);
    stage.command(1, APP, Command::HangUp { call: call(2) }).unwrap();
    assert!(!stage.at(1).is_open());
    stage.told();
    stage.join(1, APP, 3);
    let told = [
        "call 3: establishing",
        "call 3: established",
        "call 3: audio active=true held=false",
        "call 3: roster [1003]",
    ];
    assert_eq!(stage.told(), strings(&told));
}

#[test]
fn a_held_peer_to_peer_call_is_told_and_taken_back() {
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.told();
    stage.news(1, 7, LegNews::Held(true));
    stage.news(1, 7, LegNews::Reshaped(snapshot(77)));
    stage.news(1, 7, LegNews::Held(false));
    let told = ["call 1: audio active=false held=true", "call 1: audio active=true held=false"];
    assert_eq!(stage.told(), strings(&told));
}

#[test]
fn a_phone_number_is_told_apart_from_a_user() {
    // INV-22
    let mut invitee = ring(9);
    invitee.identity.who = Who::Phone(PhoneNumber::parse("+12345678901").unwrap());
    let mut stage = Stage::new();
    stage.talking(1, 7);
    stage.told();
    stage.invite(1, 1, invite(5, vec![invitee])).unwrap();
    stage.answer(1, 9);
    assert_eq!(stage.told()[1], "call 1: op 5 completed");
}
