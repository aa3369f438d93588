"""A real phone in every codec: baresip is invited, hears the others, and is heard by them."""

import json

import pytest

from baresip_phone import CODECS, baresip, invite_baresip, level, recording, sound_of
from said import Said
from server import ADA, BARESIP, CONVOKE, DESK, SOFT, user

OWN = 1500  # hertz: what baresip says; the desk says 440 and Ada 660


def listener(convoke, folder):
    """A phone of ours that says nothing, tells what it hears, and records it."""
    command = [CONVOKE, "phone", "--server", f"127.0.0.1:{convoke.sip}", "--domain", "contoso.example"]
    command += ["--user", "soft", "--password", "only-for-tests", "--say", "silence"]
    for hertz in (440, OWN):
        command += ["--hear", str(hertz)]
    return Said([*command, "--record", str(folder / "listener.wav")], folder / "listener.log")


def hears(line, *wanted):
    """Whether a line of our phone says that it hears all of these, in the last 200 ms."""
    if '"event":"hears"' not in line:
        return False
    heard = {tone["hz"]: tone["dbov"] for tone in json.loads(line)["tones"]}
    return all(heard[hertz] > -40 for hertz in wanted)


@pytest.mark.parametrize("codec", CODECS)
def test_baresip_hears_and_is_heard(convoke, tmp_path, codec):
    ears = listener(convoke, tmp_path)
    try:
        with baresip(convoke, tmp_path, OWN, codec=codec) as (config, phone):
            ears.wait('"event":"registered"')
            call = convoke.talk(user(DESK), user(ADA), user(SOFT))
            invite_baresip(convoke, call, phone)
            roster = convoke.hook.wait_roster(call, [DESK, ADA, SOFT, BARESIP])["resourceData"]
            # Three seconds of it, told by the phone that hears it.
            ears.wait(lambda line: hears(line, 440, OWN), count=15)
            them = next(p for p in roster if (p["info"]["identity"].get("user") or {}).get("id") == BARESIP)
            convoke.ask("DELETE", f"/communications/calls/{call}/participants/{them['id']}")
            convoke.hook.wait_roster(call, [DESK, ADA, SOFT])
            phone.wait("terminated")
    finally:
        ears.stop()
    samples, rate = recording(config, phone)
    samples = samples[rate // 2 :][: rate * 2]
    found = {hertz: level(samples, rate, hertz) for hertz in (440, 660, OWN)}
    assert found[440] > 0.02 and found[660] > 0.02, found
    assert found[OWN] < 0.005, f"baresip hears itself: {found}"
    # Ours was there before baresip came and after it had gone: the best second of the recording.
    samples, rate = sound_of(next(tmp_path.glob("listener*.wav")))
    best = max(level(samples[at : at + rate], rate, OWN) for at in range(0, len(samples) - rate, rate))
    assert best > 0.02, best
