"""Days on which something breaks: the process dies, and comes back; what is on the wire is read by others."""

import json
import pathlib
import subprocess
import time

import pytest

from server import ADA, BEN, CLEO, DESK, NICK, WITHIN, person, user


def test_after_a_kill_everything_is_told_and_every_phone_is_hung_up(own):
    own.start()
    call = own.talk(user(DESK), user(BEN))
    operation = own.invite(call, person(NICK), context="in flight").json()
    before = len(own.hook.of_call(call))
    own.kill()
    own.start()
    failed = own.hook.wait_operation(call, operation["id"])
    assert failed["resourceData"]["status"] == "failed"
    ended = own.hook.wait_state(call, "terminated")
    assert (ended["resourceData"]["resultInfo"]["code"], ended["resourceData"]["resultInfo"]["subcode"]) == (500, 9001)
    told = own.hook.of_call(call)
    # OP-4, CALL-2: the operation first, the end last; nothing is missing and nothing comes after.
    assert told.index(failed) < told.index(ended) and told[-1] is ended
    assert len(told) >= before + 2
    assert own.ask("GET", f"/communications/calls/{call}").status_code == 404
    # The phones can be called again at once.
    own.talk(user(DESK), user(BEN))


def test_an_invitation_is_not_repeated_across_a_restart_of_its_call(own):
    # INV-33: once the call is gone the answer is 404.
    own.start()
    call = own.talk(user(DESK), user(BEN))
    assert own.invite(call, person(ADA), context="once").status_code == 200
    own.hook.wait_roster(call, [DESK, BEN, ADA])
    own.kill()
    own.start()
    own.hook.wait_state(call, "terminated")
    assert own.invite(call, person(ADA), context="once").status_code == 404


def test_the_wire_reads_cleanly(own, tmp_path):
    """tshark finds no malformed packet in the SIP of a group call, a replace and a move."""
    capture = tmp_path / "wire.pcap"
    tshark = subprocess.Popen(
        ["tshark", "-q", "-i", "lo", "-f", f"udp port {own.sip} or tcp port {own.sip} or udp port {own.trunk}", "-w", str(capture)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in tshark.stderr:
            if "Capturing on" in line:
                break
        else:
            pytest.fail("tshark does not capture: it needs the right to (root, or CAP_NET_RAW)")
        own.start()
        call = own.talk(user(DESK), user(BEN))
        old = own.talk(user(ADA))
        own.invite(call, person(ADA, replacesCallId=old))
        own.hook.wait_state(old, "terminated")
        own.invite(call, person("+12345678901"))
        own.hook.wait_roster(call, [DESK, BEN, ADA, "+12345678901"])
        source, target = own.join(own.meeting()), own.join(own.meeting())
        own.invite(source, person(CLEO))
        roster = own.hook.wait_roster(source, [CLEO])["resourceData"]
        moved = next(p["id"] for p in roster if p["info"]["identity"].get("user"))
        own.invite(target, person(CLEO, replacesCallId=source, participantId=moved))
        own.hook.wait_roster(target, [CLEO])
        assert own.stop() == 0
        time.sleep(0.5)  # for the capture to be written
    finally:
        tshark.terminate()
        tshark.wait(WITHIN)
    decode = [item for port in (own.sip, own.trunk) for item in ("-d", f"udp.port=={port},sip")]
    fields = ["-T", "fields", "-e", "sip.Method", "-e", "sip.Status-Code"]
    read = subprocess.run(["tshark", "-r", str(capture), *decode, *fields], capture_output=True, text=True, timeout=60)
    methods = [line.split("\t")[0] for line in read.stdout.splitlines()]
    assert methods.count("INVITE") >= 5 and methods.count("BYE") >= 4 and methods.count("REGISTER") >= 8
    bad = "_ws.malformed || _ws.expert.severity >= error"
    found = subprocess.run(["tshark", "-r", str(capture), *decode, "-Y", bad], capture_output=True, text=True, timeout=60)
    assert found.stdout == "", found.stdout
