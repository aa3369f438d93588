"""The same invitations with the JavaScript clients."""

import json
import os
import pathlib
import subprocess

from server import ADA, APP, BEN, CLEO, DESK, SECRET, TENANT, user

SCRIPT = pathlib.Path(__file__).parent / "invite.mjs"


def invite(convoke, call, *people):
    command = ["node", str(SCRIPT), convoke.base, TENANT, APP, SECRET, call, *(json.dumps(p) for p in people)]
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": convoke.ca}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    operation = json.loads(done.stdout)
    assert operation["status"] == "Running"
    told = convoke.hook.wait_operation(call, operation["id"])["resourceData"]
    assert told["status"] == "completed", told


def test_one_replaced(convoke):
    target, replaced = convoke.talk(user(DESK), user(BEN)), convoke.talk(user(ADA))
    invite(convoke, target, {"id": ADA, "replacesCallId": replaced})
    convoke.hook.wait_roster(target, [DESK, BEN, ADA])
    convoke.hook.wait_state(replaced, "terminated")


def test_several_and_a_number(convoke):
    target = convoke.talk(user(DESK), user(CLEO))
    invite(convoke, target, {"id": ADA}, {"id": BEN})
    invite(convoke, target, {"id": "+12345678901"})
    convoke.hook.wait_roster(target, [DESK, CLEO, ADA, BEN, "+12345678901"])


def test_a_move(convoke):
    source, target = convoke.join(convoke.meeting()), convoke.join(convoke.meeting())
    invite(convoke, source, {"id": CLEO})
    roster = convoke.hook.wait_roster(source, [CLEO])["resourceData"]
    moved = next(p["id"] for p in roster if p["info"]["identity"].get("user"))
    invite(convoke, target, {"id": CLEO, "replacesCallId": source, "participantId": moved})
    convoke.hook.wait_roster(target, [CLEO])
    convoke.hook.wait_roster(source, [])
