"""The process dies, or hands over, and the next one goes on: the same dialogs, the same mix, and the bot told nothing."""

import contextlib
import json
import re
import subprocess
import threading
import time

from baresip_phone import baresip, invite_baresip, level, recording
from server import BARESIP, CONVOKE, SIPP, SOFT, WITHIN, person, user
from test_phones import registered, until


# A re-INVITE of the next process, numbered above whatever the one before may have sent.
SIPP_AGAIN = re.compile(r"CSeq: [1-9][0-9]{5,} INVITE")


class Softphone:
    """`convoke phone`, in a process of its own: what it tells, with the time."""

    def __init__(self, server, *more):
        command = [CONVOKE, "phone", "--user", "soft", "--domain", "contoso.example", "--password", "only-for-tests"]
        command += ["--server", f"127.0.0.1:{server.sip}", "--codec", "pcmu", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.told = []
        threading.Thread(target=self.read, daemon=True).start()
        until(lambda: self.count("registered") > 0)

    def read(self):
        for line in self.process.stdout:
            self.told.append((time.monotonic(), json.loads(line)))

    def count(self, event):
        return sum(1 for _, one in list(self.told) if one["event"] == event)

    def hears(self, hertz, since=0.0):
        """When it heard this tone after that moment, if it did."""
        for at, one in list(self.told):
            if at > since and one["event"] == "hears":
                if any(tone["hz"] == hertz and tone["dbov"] > -40 for tone in one["tones"]):
                    return at
        return None


@contextlib.contextmanager
def softphone(server, *more):
    phone = Softphone(server, *more)
    try:
        yield phone
    finally:
        phone.process.terminate()
        try:
            phone.process.wait(10)
        except subprocess.TimeoutExpired:
            phone.process.kill()


def told_nothing(server, call, before):
    """A notice may come again if the process died between the bot's answer and its note of it: the same message."""
    message = lambda notice: notice["headers"]["x-microsoft-skype-original-message-id"]
    told = server.hook.of_call(call)
    known = {message(notice) for notice in told[:before]}
    assert [n["resourceData"] for n in told[before:] if message(n) not in known] == []
    assert server.ask("GET", f"/communications/calls/{call}").json()["state"] == "established"


def test_real_phones_hear_each_other_again_in_the_same_dialogs(own, tmp_path):
    # CALL-2: the bot hears of no end, because there is none.
    own.start()
    with (
        baresip(own, tmp_path, 1500, seconds=60) as (config, log),
        softphone(own, "--say", "tone:880", "--hear", "1500") as soft,
        registered(own, tmp_path, "survive") as sipp,
    ):
        call = own.place(user(SOFT), user(SIPP))["id"]
        own.hook.wait_state(call, "established")
        invite_baresip(own, call, log)
        own.hook.wait_roster(call, [SOFT, SIPP, BARESIP])
        until(lambda: soft.hears(1500))
        time.sleep(1)  # Notices and the last write.
        for _ in range(2):
            before = len(own.hook.of_call(call))
            own.kill()
            died = time.monotonic()
            own.start()
            until(lambda: soft.hears(1500, since=died + 0.25))
            print(f"heard again after {soft.hears(1500, since=died + 0.25) - died:.2f} s")
            if sipp.poll() is None:
                until(lambda: any(SIPP_AGAIN.search(p.read_text()) for p in tmp_path.glob("survive_*_messages.log")))
            told_nothing(own, call, before)
            # SIPp's scenario is asked once; it leaves as a person does.
            if len(people_of(own, call)) == 3:
                them = next(p for p in people_of(own, call) if p["info"]["identity"]["user"]["id"] == SIPP)
                own.ask("DELETE", f"/communications/calls/{call}/participants/{them['id']}")
                own.hook.wait_roster(call, [SOFT, BARESIP])
                assert sipp.wait(WITHIN) == 0, "not the same dialog"
        time.sleep(1)  # Of audio, for the recording.
        assert soft.count("incoming") == 1 and soft.count("ended") == 0
        assert own.ask("DELETE", f"/communications/calls/{call}").status_code == 204
        own.stop()
    samples, rate = recording(config, log)
    # In short pieces: on a busy machine baresip's jitter buffer cuts the tone into some.
    last, piece = samples[-2 * rate :], rate // 20
    levels = [level(last[at : at + piece], rate, 880) for at in range(0, len(last) - piece, piece)]
    assert max(levels) > 0.05, f"baresip does not hear the softphone any more: {levels}"
    assert len(list(config.glob("dump-*-dec.wav"))) == 1, "one call"


def people_of(server, call):
    roster = server.ask("GET", f"/communications/calls/{call}/participants").json()["value"]
    return [p for p in roster if p["info"]["identity"].get("user")]


def test_a_ringing_phone_rings_on_and_joins_within_the_same_operation(own, tmp_path):
    # INV-14, INV-28, OP-1
    own.start()
    with (
        softphone(own, "--say", "tone:880", "--hear", "1500", "--answer-after", "3s") as soft,
        baresip(own, tmp_path, 1500, seconds=60),
        registered(own, tmp_path, "ring_on") as sipp,
    ):
        call = place_when_registered(own, BARESIP)
        both = own.invite(call, person(SOFT), context="rings").json()
        other = own.invite(call, person(SIPP), context="rings too").json()
        until(lambda: soft.count("ringing") > 0)
        until(lambda: any("180 Ringing" in p.read_text() for p in tmp_path.glob("ring_on_*_messages.log")))
        before = len(own.hook.of_call(call))
        own.kill()
        own.start()
        for operation in [both, other]:
            done = own.hook.wait_operation(call, operation["id"])
            assert done["resourceData"]["status"] == "completed", done
        own.hook.wait_roster(call, [BARESIP, SOFT, SIPP])
        assert soft.count("incoming") == 1, "it rang on, it did not ring again"
        answered = next(at for at, one in soft.told if one["event"] == "answered")
        until(lambda: soft.hears(1500, since=answered))
        ends = [n for n in own.hook.of_call(call)[before:] if n["changeType"] == "deleted" or n["resourceData"] == "terminated"]
        assert all("/operations/" in n["resourceUrl"] for n in ends), ends
        them = next(p for p in people_of(own, call) if p["info"]["identity"]["user"]["id"] == SIPP)
        own.ask("DELETE", f"/communications/calls/{call}/participants/{them['id']}")
        assert sipp.wait(WITHIN) == 0, "not the same transaction, or not the same dialog"


def place_when_registered(server, whom):
    deadline = time.monotonic() + WITHIN
    while True:
        call = server.place(user(whom))["id"]
        reached = server.hook.wait(
            lambda n: n["resourceUrl"].endswith(f"/calls/{call}")
            and n["resourceData"].get("state") in ("established", "terminated")
        )
        if reached["resourceData"]["state"] == "established":
            return call
        assert time.monotonic() < deadline, "never registered"


def test_a_phone_that_leaves_while_nobody_is_there_is_off_the_roster(own, tmp_path):
    own.start()
    with (
        baresip(own, tmp_path, 1500, seconds=60) as (_config, log),
        softphone(own, "--say", "tone:880", "--hear", "1500") as soft,
    ):
        call = own.talk(user(SOFT))
        invite_baresip(own, call, log)
        own.hook.wait_roster(call, [SOFT, BARESIP])
        own.kill()
        soft.process.kill()  # Without a word: its leg is asked for and given up.
        own.start()
        own.hook.wait_roster(call, [BARESIP], within=60)
        assert own.ask("GET", f"/communications/calls/{call}").json()["state"] == "established"


def test_a_ringing_phone_gets_its_cancel_from_the_next_process(own, tmp_path):
    # INV-29
    own.start()
    with (
        softphone(own, "--no-answer") as soft,
        baresip(own, tmp_path, 1500, seconds=60),
    ):
        call = place_when_registered(own, BARESIP)
        operation = own.invite(call, person(SOFT)).json()
        until(lambda: soft.count("ringing") > 0)
        own.kill()
        own.start()
        own.ask("DELETE", f"/communications/calls/{call}/participants/{operation['participants'][0]['participantId']}")
        assert own.hook.wait_operation(call, operation["id"])["resourceData"]["status"] == "failed"
        until(lambda: soft.count("ended") > 0)
        assert soft.count("incoming") == 1


def test_a_server_that_hands_over_loses_no_call(own, tmp_path):
    own.start("--hand-over")
    with (
        baresip(own, tmp_path, 1500, seconds=60) as (_config, log),
        softphone(own, "--say", "tone:880", "--hear", "1500") as soft,
    ):
        call = own.talk(user(SOFT))
        invite_baresip(own, call, log)
        own.hook.wait_roster(call, [SOFT, BARESIP])
        until(lambda: soft.hears(1500))
        time.sleep(1)
        before = len(own.hook.of_call(call))
        asked = time.monotonic()
        assert own.stop() == 0
        stopped = time.monotonic()
        own.start("--hand-over")
        until(lambda: soft.hears(1500, since=stopped))
        print(f"stopped after {stopped - asked:.2f} s, heard again after {soft.hears(1500, since=stopped) - asked:.2f} s")
        told_nothing(own, call, before)
        assert soft.count("ended") == 0
        # Without the flag a stop is an end.
        own.stop()
        own.start()
        assert own.stop() == 0
        until(lambda: soft.count("ended") == 1)
