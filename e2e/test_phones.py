"""Real phones: SIPp plays every kind of callee, baresip is heard by the others."""

import array
import contextlib
import math
import pathlib
import shutil
import socket
import subprocess
import time
import wave

import pytest

from server import ADA, BARESIP, BEN, DESK, SIPP, WITHIN, free_port, person, user

SCENARIOS = pathlib.Path(__file__).parent / "sipp"


def sipp(convoke, tmp_path, scenario, port, *more):
    command = ["sipp", f"127.0.0.1:{convoke.sip}", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", "127.0.0.1"]
    command += ["-p", str(port), "-m", "1", "-nostdin", "-timeout", "40", "-timeout_error", "-trace_err", "-trace_msg"]
    command += ["-mp", str(free_port(socket.SOCK_DGRAM) & ~1), *more]
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


@pytest.mark.parametrize(("scenario", "result"), [("busy", (486, 8539)), ("decline", (603, 8538))])
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


def level(samples, rate, hertz):
    """How loud one frequency is among these samples, by Goertzel's recurrence; 1.0 is full scale."""
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    one = two = 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    power = one * one + two * two - turn * one * two
    return 2 * math.sqrt(max(power, 0)) / len(samples) / 32768


@contextlib.contextmanager
def baresip(convoke, tmp_path, hertz, seconds=30):
    """baresip says a tone for so long, answers by itself and records what it hears: its folder, and its log."""
    config, sound = tmp_path / "baresip", tmp_path / "tone.wav"
    config.mkdir()
    with wave.open(str(sound), "wb") as tone:
        tone.setparams((1, 2, 8000, 0, "NONE", ""))
        samples = (int(9000 * math.sin(2 * math.pi * hertz * n / 8000)) for n in range(8000 * seconds))
        tone.writeframes(array.array("h", samples).tobytes())
    port = free_port(socket.SOCK_DGRAM)
    modules = next(pathlib.Path(p) for p in ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules", "/usr/local/lib/baresip/modules") if pathlib.Path(p).is_dir())
    (config / "config").write_text(
        f"""
sip_listen 127.0.0.1:{port}
module_path {modules}
audio_player aubridge,nil
audio_source aufile,{sound}
audio_alert aubridge,nil
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
snd_path {config}
"""
    )
    (config / "accounts").write_text(
        f'<sip:baresip@contoso.example;transport=udp>;auth_user=baresip;auth_pass=only-for-tests;'
        f'outbound="sip:127.0.0.1:{convoke.sip}";answermode=auto;regint=120\n'
    )
    (config / "contacts").write_text("")
    log = open(tmp_path / "baresip.log", "w+")
    phone = subprocess.Popen([shutil.which("baresip"), "-f", str(config), "-v"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield config, log
    finally:
        phone.terminate()
        try:
            phone.wait(10)
        except subprocess.TimeoutExpired:
            phone.kill()


def invite_baresip(convoke, call, log):
    """Until it has registered it cannot be reached."""
    deadline = time.monotonic() + WITHIN
    while ended(convoke, call, convoke.invite(call, person(BARESIP)))[0] != "completed":
        log.seek(0)
        assert time.monotonic() < deadline, log.read()[-3000:]


def recording(config, log):
    """What it heard in its last call, and the rate."""
    log.seek(0)
    heard = sorted(config.glob("dump-*-dec.wav"))
    assert heard, log.read()[-3000:]
    with wave.open(str(heard[-1]), "rb") as recorded:
        return array.array("h", recorded.readframes(recorded.getnframes())), recorded.getframerate()


def test_baresip_is_invited_and_hears_the_others(convoke, tmp_path):
    """baresip records what it hears: Ada's 660 Hz and the desk's 440 Hz, and not its own 1500 Hz."""
    with baresip(convoke, tmp_path, 1500) as (config, log):
        call = convoke.talk(user(DESK), user(ADA))
        invite_baresip(convoke, call, log)
        roster = convoke.hook.wait_roster(call, [DESK, ADA, BARESIP])["resourceData"]
        time.sleep(3)  # of audio
        them = next(p for p in roster if (p["info"]["identity"].get("user") or {}).get("id") == BARESIP)
        convoke.ask("DELETE", f"/communications/calls/{call}/participants/{them['id']}")
        convoke.hook.wait_roster(call, [DESK, ADA])
    samples, rate = recording(config, log)
    samples = samples[rate // 2 :][: rate * 2]
    levels = {hertz: level(samples, rate, hertz) for hertz in (440, 660, 1500)}
    assert levels[440] > 0.02 and levels[660] > 0.02, levels
    assert levels[1500] < 0.005, levels
