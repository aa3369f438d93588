"""Real phones: SIPp plays every kind of callee."""

import contextlib
import pathlib
import random
import socket
import subprocess
import time

import pytest

from server import BEN, DESK, SIPP, WITHIN, free_port, person, user

SCENARIOS = pathlib.Path(__file__).parent / "sipp"


def media_port():
    """SIPp binds this port, the next, and two more for video, and gives up if one of them is taken: none that the system
    gives away to others, and none of the server's own."""
    for port in range(random.randrange(10_000, 18_000, 8), 19_000, 8):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for number in range(port, port + 4):
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", number))
            return port
    raise AssertionError("no four ports in a row")


def sipp(convoke, tmp_path, scenario, port, *more):
    command = ["sipp", f"127.0.0.1:{convoke.sip}", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", "127.0.0.1"]
    command += ["-p", str(port), "-m", "1", "-nostdin", "-timeout", "40", "-timeout_error", "-trace_err", "-trace_msg"]
    command += ["-mp", str(media_port()), *more]
    output = open(tmp_path / f"{scenario}.txt", "w+")
    return subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output), output


@contextlib.contextmanager
def registered(convoke, tmp_path, scenario, *more):
    """A SIPp phone that has registered and plays `scenario` when it is called; it must end well."""
    port = free_port(socket.SOCK_DGRAM)
    register, output = sipp(convoke, tmp_path, "register", port)
    if register.wait(WITHIN) != 0:
        output.seek(0)
        raise AssertionError(output.read())
    phone, output = sipp(convoke, tmp_path, scenario, port, *more)
    try:
        yield phone
        code = phone.wait(45)
        output.seek(0)
        errors = "".join(p.read_text() for p in tmp_path.glob("*_errors.log"))
        assert code == 0, f"SIPp {scenario}: {code}\n{errors}\n{output.read()[-1500:]}"
    finally:
        phone.kill()


def until(holds):
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.02)


def ended(convoke, call, operation):
    data = convoke.hook.wait_operation(call, operation.json()["id"], within=40)["resourceData"]
    result = data.get("resultInfo") or {}
    return data["status"], result.get("code"), result.get("subcode")


def test_a_phone_answers_and_is_hung_up(convoke, tmp_path):
    call = convoke.talk(user(DESK), user(BEN))
    with registered(convoke, tmp_path, "answer"):
        operation = convoke.invite(call, person(SIPP))
        assert ended(convoke, call, operation)[0] == "completed"
        roster = convoke.hook.wait_roster(call, [DESK, BEN, SIPP])["resourceData"]
        them = next(p for p in roster if (p["info"]["identity"].get("user") or {}).get("id") == SIPP)
        gone = convoke.ask("DELETE", f"/communications/calls/{call}/participants/{them['id']}")
        assert gone.status_code == 204


@pytest.mark.parametrize("scenario", ["reliable", "timers"])
def test_a_phone_rings_reliably_or_wants_its_session_refreshed(convoke, tmp_path, scenario):
    # RFC 3262 and RFC 4028: what SIPp checks of our requests is in the scenarios.
    call = convoke.talk(user(DESK), user(BEN))
    with registered(convoke, tmp_path, scenario):
        operation = convoke.invite(call, person(SIPP))
        assert ended(convoke, call, operation)[0] == "completed"
        roster = convoke.hook.wait_roster(call, [DESK, BEN, SIPP])["resourceData"]
        until(lambda: scenario == "reliable" or "2 ACK" in messages(tmp_path, scenario))
        them = next(p for p in roster if (p["info"]["identity"].get("user") or {}).get("id") == SIPP)
        convoke.ask("DELETE", f"/communications/calls/{call}/participants/{them['id']}")


def messages(tmp_path, scenario):
    return "".join(p.read_text() for p in tmp_path.glob(f"{scenario}_*_messages.log"))


# A phone that forwards its calls to somebody who is busy is busy.
@pytest.mark.parametrize(
    ("scenario", "result"), [("busy", (486, 8539)), ("decline", (603, 8538)), ("forward", (486, 8539))]
)
def test_a_phone_says_no(convoke, tmp_path, scenario, result):
    call = convoke.talk(user(DESK), user(BEN))
    with registered(convoke, tmp_path, scenario):
        assert ended(convoke, call, convoke.invite(call, person(SIPP))) == ("failed", *result)


@pytest.mark.parametrize("scenario", ["no_answer", "late_answer"])
def test_a_phone_is_cancelled(convoke, tmp_path, scenario):
    # INV-29; the late answer is acknowledged and hung up on, and nobody joins.
    call = convoke.talk(user(DESK), user(BEN), version="beta")
    with registered(convoke, tmp_path, scenario) as phone:
        operation = convoke.invite(call, person(SIPP))
        until(lambda: any("180 Ringing" in p.read_text() for p in tmp_path.glob(f"{scenario}_*_messages.log")))
        ringing = operation.json()["participants"][0]["participantId"]
        convoke.ask("DELETE", f"/communications/calls/{call}/participants/{ringing}")
        assert ended(convoke, call, operation) == ("failed", 487, 8542)
        assert phone.wait(40) == 0


def test_a_phone_holds_and_comes_back(convoke, tmp_path):
    with registered(convoke, tmp_path, "hold"):
        call = convoke.place(user(SIPP))["id"]
        held = convoke.hook.wait_state(call, "hold")
        since = convoke.hook.told.index(held)
        convoke.hook.wait(
            lambda n: n["resourceUrl"].endswith(f"/calls/{call}") and n["resourceData"].get("state") == "established",
            since=since,
        )
        assert convoke.ask("DELETE", f"/communications/calls/{call}").status_code == 204
