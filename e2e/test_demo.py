"""The demo as a newcomer meets it: what it prints to be typed, typed."""

import json
import subprocess

from said import Said
from server import CONVOKE


def test_the_curl_lines_that_the_demo_prints_invite_someone(tmp_path):
    # INV-8
    demo = Said([CONVOKE, "demo"], tmp_path / "demo.log")
    try:
        demo.wait("all five examples succeeded", within=60)
        demo.wait('"clientContext":"from curl"')
        lines = list(demo.lines)
        begin = next(number for number, line in enumerate(lines) if line.startswith("TOKEN="))
        end = next(number for number, line in enumerate(lines) if "from curl" in line)
        typed = "\n".join([*lines[begin : end + 1], r"printf '\n%s' $CALL"])
        shell = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=60)
        operation, call = shell.stdout.strip().splitlines()
        operation = json.loads(operation)
        assert operation.get("clientContext") == "from curl", operation
        assert operation["@odata.type"] == "#microsoft.graph.inviteParticipantsOperation", operation
        demo.wait(lambda line: call[:8] in line and "operation completed" in line)
    finally:
        code = demo.stop()
    assert code == 0
