"""`kill -9` at any moment: whatever was promised is kept by the next process. What phones notice: test_restarts.py."""

import random
import threading

import requests

from server import ADA, BEN, CLEO, DESK, NICK, SIPP, person, user
from test_phones import registered, until


def busy(server, stop, placed):
    """Calls and invites until told to stop or the server is gone."""
    turn = 0
    while not stop.is_set():
        turn += 1
        try:
            group = server.place(user(DESK), user(BEN))["id"]
            placed.append(group)
            server.hook.wait_state(group, "established", within=2)
            server.invite(group, person(NICK), person(ADA), context=f"turn {turn}")
            old = server.place(user(CLEO))["id"]
            placed.append(old)
            server.hook.wait_state(old, "established", within=2)
            server.invite(group, person(CLEO, replacesCallId=old), context=f"move {turn}")
        except (requests.RequestException, AssertionError):
            # The server is being killed under us: what counts is what comes of it.
            if stop.is_set():
                return


def test_kills_at_any_moment(own):
    own.start()
    chance = random.Random(20)
    placed = []
    for _ in range(4):
        stop = threading.Event()
        worker = threading.Thread(target=busy, args=(own, stop, placed))
        worker.start()
        worker.join(chance.uniform(0.3, 1.6))
        stop.set()
        own.kill()
        worker.join(30)
        own.start()
    # The calls go on in the last process; the test lines they were with died with the first. The bot ends them all.
    for call in placed:
        assert own.ask("DELETE", f"/communications/calls/{call}").status_code in (204, 404)
    for call in placed:
        own.hook.wait_state(call, "terminated")
    assert len(placed) >= 4
    for call in placed:
        told = own.hook.of_call(call)
        # CALL-2, CALL-3: from the beginning to the end, in order, with one end that is last. A notice may come twice if
        # the process died between the bot's answer and its note of it: then it is the same message.
        seen = {}
        for number, notice in enumerate(told):
            seen.setdefault(notice["headers"]["x-microsoft-skype-original-message-id"], number)
        once = [told[number] for number in seen.values()]
        assert once[0]["resourceData"]["state"] == "establishing"
        assert [n["changeType"] for n in once if n["resourceUrl"].endswith(call)].count("deleted") == 1
        assert once[-1]["resourceData"].get("state") == "terminated"
        # OP-1: each operation that was told of has one end.
        ends = [n["resourceUrl"] for n in once if "/operations/" in n["resourceUrl"]]
        assert len(ends) == len(set(ends))


def test_a_ringing_phone_gets_its_cancel_and_ack_from_a_server_that_stops(own, tmp_path):
    own.start()
    with registered(own, tmp_path, "no_answer") as phone:
        call = own.talk(user(DESK), user(BEN))
        own.invite(call, person(SIPP))
        until(lambda: any("180 Ringing" in p.read_text() for p in tmp_path.glob("no_answer_*_messages.log")))
        assert own.stop() == 0
        assert phone.wait(20) == 0, "no CANCEL came, or nobody acknowledged the 487"
