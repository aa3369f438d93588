"""baresip: a real phone that says a tone, answers by itself and records what it hears."""

import array
import contextlib
import math
import pathlib
import shutil
import socket
import wave

from said import Said
from server import BARESIP, free_port, person

MODULES = ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules", "/usr/local/lib/baresip/modules")
# What Debian's baresip calls it, the module, samples a second, and the channels that its SDP says (RFC 7587).
CODECS = {
    "PCMU": ("pcmu", "g711.so", 8000, 1),
    "PCMA": ("pcma", "g711.so", 8000, 1),
    "G722": ("g722", "g722.so", 16000, 1),
    "opus": ("opus", "opus.so", 48000, 2),
}


def level(samples, rate, hertz):
    """How loud one frequency is among these samples, by Goertzel's recurrence; 1.0 is full scale."""
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    one = two = 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    power = one * one + two * two - turn * one * two
    return 2 * math.sqrt(max(power, 0)) / len(samples) / 32768


def sound_of(path):
    """One channel of a recording, and its rate."""
    with wave.open(str(path), "rb") as recorded:
        samples = array.array("h", recorded.readframes(recorded.getnframes()))
        return samples[:: recorded.getnchannels()], recorded.getframerate()


@contextlib.contextmanager
def baresip(convoke, folder, hertz, seconds=30, codec="PCMU"):
    """baresip says a tone for so long, knows one codec, and records what it hears: its folder, and what it says."""
    name, module, rate, channels = CODECS[codec]
    config, sound = folder / "baresip", folder / "tone.wav"
    config.mkdir()
    with wave.open(str(sound), "wb") as tone:
        tone.setparams((channels, 2, rate, 0, "NONE", ""))
        second = (int(9000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(rate) for _ in range(channels))
        tone.writeframes(array.array("h", second).tobytes() * seconds)
    modules = next(path for path in MODULES if pathlib.Path(path).is_dir())
    (config / "config").write_text(
        f"""
sip_listen 127.0.0.1:{free_port(socket.SOCK_DGRAM)}
module_path {modules}
audio_player aubridge,nil
audio_source aufile,{sound}
audio_alert aubridge,nil
module {module}
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
snd_path {config}
"""
    )
    (config / "accounts").write_text(
        f"<sip:baresip@contoso.example;transport=udp>;auth_user=baresip;auth_pass=only-for-tests;"
        f'outbound="sip:127.0.0.1:{convoke.sip}";answermode=auto;regint=120;audio_codecs={name}\n'
    )
    (config / "contacts").write_text("")
    phone = Said([shutil.which("baresip"), "-f", str(config), "-v"], folder / "baresip.log")
    try:
        yield config, phone
    finally:
        phone.stop()


def invite_baresip(convoke, call, phone):
    """Once it has registered."""
    phone.wait("200 OK")
    operation = convoke.invite(call, person(BARESIP)).json()["id"]
    told = convoke.hook.wait_operation(call, operation, within=40)["resourceData"]
    assert told["status"] == "completed", told


def recording(config, phone):
    """What it heard in its last call, and the rate."""
    heard = sorted(config.glob("dump-*-dec.wav"))
    assert heard, "\n".join(phone.lines)[-3000:]
    return sound_of(heard[-1])
