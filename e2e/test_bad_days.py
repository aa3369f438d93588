"""Days on which something breaks: the process dies, and comes back; what is on the wire is read by others."""

import json
import pathlib
import subprocess

from said import Said
from server import ADA, BEN, CLEO, DESK, NICK, person, user
from test_restarts import told_nothing


def test_after_a_kill_everything_goes_on_and_ends_when_it_would_have(own):
    # OP-4, CALL-2, INV-28
    own.start()
    call = own.talk(user(DESK), user(BEN))
    operation = own.invite(call, person(NICK), context="in flight").json()
    # Audio has begun, and that is told as well.
    own.hook.wait(
        lambda n: n["resourceUrl"].endswith(f"/calls/{call}")
        and (n["resourceData"].get("mediaState") or {}).get("audio") == "active"
    )
    before = len(own.hook.of_call(call))
    own.kill()
    own.start()
    assert own.ask("GET", f"/communications/calls/{call}").json()["state"] == "established"
    assert own.ask("GET", f"/communications/calls/{call}/operations/{operation['id']}").json()["status"].lower() == "running"
    told_nothing(own, call, before)
    assert own.ask("DELETE", f"/communications/calls/{call}").status_code == 204
    failed = own.hook.wait_operation(call, operation["id"])
    assert failed["resourceData"]["status"] == "failed"
    ended = own.hook.wait_state(call, "terminated")
    told = own.hook.of_call(call)
    # The operation first, the end last; nothing is missing and nothing comes after.
    assert told.index(failed) < told.index(ended) and told[-1] is ended
    # The phones can be called again at once.
    own.talk(user(DESK), user(BEN))


def test_an_invitation_is_not_repeated_across_a_restart(own):
    # INV-33: the same operation as before.
    own.start()
    call = own.talk(user(DESK), user(BEN))
    first = own.invite(call, person(NICK), context="once")
    assert first.status_code == 200
    own.kill()
    own.start()
    again = own.invite(call, person(NICK), context="once")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


def test_the_wire_reads_cleanly(own, tmp_path):
    """tshark finds no malformed packet in the SIP of a group call, a replace and a move."""
    capture = tmp_path / "wire.pcap"
    command = ["tshark", "-l", "-P", "-i", "lo", "-w", str(capture), "-f"]
    tshark = Said([*command, f"udp port {own.sip} or tcp port {own.sip} or udp port {own.trunk}"], tmp_path / "tshark.log")
    try:
        # It needs the right to: root, or CAP_NET_RAW.
        tshark.wait("Capturing on")
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
        tshark.wait("BYE", count=4)
    finally:
        tshark.stop()
    decode = [item for port in (own.sip, own.trunk) for item in ("-d", f"udp.port=={port},sip")]
    fields = ["-T", "fields", "-e", "sip.Method", "-e", "sip.Status-Code"]
    read = subprocess.run(["tshark", "-r", str(capture), *decode, *fields], capture_output=True, text=True, timeout=60)
    methods = [line.split("\t")[0] for line in read.stdout.splitlines()]
    assert methods.count("INVITE") >= 5 and methods.count("BYE") >= 4 and methods.count("REGISTER") >= 8
    bad = "_ws.malformed || _ws.expert.severity >= error"
    found = subprocess.run(["tshark", "-r", str(capture), *decode, "-Y", bad], capture_output=True, text=True, timeout=60)
    assert found.stdout == "", found.stdout
