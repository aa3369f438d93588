"""What can go wrong with an invitation, and that repeating one is safe."""

import pytest

from server import ADA, BEA, BEN, DESK, JOINER, NICK, people, person, user

LONG = 256 * "x"


@pytest.fixture(scope="module")
def group(convoke):
    return convoke.talk(user(DESK), user(BEN))


def failed(convoke, call, answer):
    assert answer.status_code == 200, answer.text
    told = convoke.hook.wait_operation(call, answer.json()["id"])["resourceData"]
    assert told["status"] == "failed"
    # OP-3
    return told["resultInfo"]["code"], told["resultInfo"]["subcode"], told["resultInfo"]["message"]


def test_the_response_carries_every_property(convoke, group):
    # INV-8, INV-9
    answer = convoke.invite(group, person(BEA, hidden=False), context="c1", version="beta")
    assert answer.status_code == 200
    operation = answer.json()
    assert answer.headers["Location"] == f"{convoke.base}/beta/communications/calls/{group}/operations/{operation['id']}"
    assert operation["resultInfo"] is None
    invited = operation["participants"][0]
    for name in ("endpointType", "id", "replacesCallId", "removeFromDefaultAudioRoutingGroup"):
        assert invited[name] is None
    assert invited["participantId"]
    assert failed(convoke, group, answer)[:2] == (486, 8539)


def test_both_roots_are_one(convoke, group):
    # INV-1
    body = {"participants": [person(BEA)]}
    for path in (f"/app/calls/{group}/participants/invite", f"/communications/calls('{group}')/participants/microsoft.graph.invite"):
        assert convoke.ask("POST", path, body).status_code == 200


def test_an_unknown_user_and_one_without_a_device(convoke, group):
    assert failed(convoke, group, convoke.invite(group, person("5d2c6b3e-0b7f-4c57-9a2a-0000000000ff")))[:2] == (480, 10037)
    assert failed(convoke, group, convoke.invite(group, person("5d2c6b3e-0b7f-4c57-9a2a-000000000004")))[:2] == (480, 10037)


def test_nobody_is_invited_twice(convoke, group):
    # INV-23
    assert failed(convoke, group, convoke.invite(group, person(DESK)))[:2] == (409, 8519)


def test_bots(convoke, group):
    # INV-6
    bots = [{"identity": {"application": {"id": f"0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0b0{n}"}}} for n in (1, 2)]
    assert convoke.invite(group, *bots).status_code == 403
    assert failed(convoke, group, convoke.invite(group, bots[0]))[:2] == (480, 10076)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"participants": None},
        {"participants": []},
        {"participants": [{}]},
        {"participants": [person("+0123")]},
        {"participants": [person(ADA)] * 6},
        # INV-7
        {"participants": [person(ADA)], "clientContext": LONG + "x"},
        {"participants": "everyone"},
    ],
)
def test_bad_bodies_are_refused(convoke, group, body):
    answer = convoke.ask("POST", f"/communications/calls/{group}/participants/invite", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] and error["message"] and error["innerError"]["request-id"]


def test_unknown_properties_are_ignored(convoke, group):
    # INV-32
    body = {"participants": [person(BEA, nonsense={"a": 1})], "clientContext": LONG, "more": 1}
    assert convoke.ask("POST", f"/communications/calls/{group}/participants/invite", body).status_code == 200


def test_who_may(convoke, group):
    # INV-2, INV-3
    import requests

    url = f"{convoke.base}/v1.0/communications/calls/{group}/participants/invite"
    anonymous = requests.post(url, json={"participants": [person(ADA)]}, verify=convoke.ca, timeout=10)
    assert (anonymous.status_code, anonymous.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")
    other = convoke.ask("POST", f"/communications/calls/{group}/participants/invite", {"participants": [person(ADA)]}, app=JOINER)
    assert (other.status_code, other.json()["error"]["code"]) == (403, "7504")


def test_several_need_a_group(convoke):
    # INV-5
    call = convoke.talk(user(DESK))
    answer = convoke.invite(call, person(ADA), person(BEN))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "8548")


def test_a_ringing_invitee_can_be_withdrawn_and_a_repeat_rings_nobody(convoke, group):
    # INV-29, INV-33
    first = convoke.invite(group, person(NICK), context="once")
    again = convoke.invite(group, person(NICK), context="once")
    assert first.json()["id"] == again.json()["id"]
    ringing = first.json()["participants"][0]["participantId"]
    assert convoke.ask("DELETE", f"/communications/calls/{group}/participants/{ringing}").status_code == 204
    assert failed(convoke, group, first)[:2] == (487, 8542)


def test_a_call_that_is_over_is_unknown(convoke):
    # CALL-7
    call = convoke.talk(user(DESK))
    assert convoke.ask("DELETE", f"/communications/calls/{call}").status_code == 204
    convoke.hook.wait_state(call, "terminated")
    answer = convoke.invite(call, person(ADA))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "8522")
    assert convoke.ask("POST", f"/communications/calls/{call}/keepAlive").status_code == 404


def test_the_roster_can_be_read(convoke, group):
    # ROS-2
    roster = convoke.ask("GET", f"/communications/calls/{group}/participants").json()["value"]
    assert people(roster) == sorted([DESK, BEN])
    assert len(roster) == 3
    # ROS-5
    sources = [p["mediaStreams"][0]["sourceId"] for p in roster]
    assert len(set(sources)) == 3 and all(source.isdigit() for source in sources)
    for p in roster:
        one = convoke.ask("GET", f"/communications/calls/{group}/participants/{p['id']}")
        assert one.json()["id"] == p["id"]
    assert convoke.ask("GET", f"/communications/calls/{group}/audioRoutingGroups").json()["value"] == []


def test_notifications_are_addressed_as_documented(convoke, group):
    # CALL-1, CALL-4, ROS-1, OP-2
    for told in convoke.hook.of_call(group):
        assert told["path"] == "/api/calls?story=1"
        assert told["resourceUrl"].startswith("/communications/calls/")
        assert told["resource"] == told["resourceUrl"].replace("/communications/", "/app/", 1)
        for header in ("scenario-id", "x-microsoft-skype-chain-id", "x-microsoft-skype-message-id"):
            assert told["headers"][header]
        if told["resourceUrl"].endswith("/participants"):
            assert told["changeType"] == "updated" and isinstance(told["resourceData"], list)


def test_a_webhook_that_is_down_for_a_moment_loses_nothing(convoke):
    # CALL-2, CALL-3
    convoke.hook.refuse = 2
    call = convoke.talk(user(DESK))
    assert convoke.ask("DELETE", f"/communications/calls/{call}").status_code == 204
    convoke.hook.wait_state(call, "terminated")
    told = [(n["changeType"], n["resourceData"].get("state")) for n in convoke.hook.of_call(call)]
    states = [state for _, state in told]
    assert states[0] == "establishing" and states[-1] == "terminated"
    assert [kind for kind, _ in told].count("deleted") == 1
