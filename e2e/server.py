"""A convoke server of its own for a test run: data directory, free ports, certificates, directory, and a webhook."""

import http.server
import json
import os
import pathlib
import queue
import signal
import socket
import ssl
import subprocess
import threading
import time

import jwt
import requests

from said import WITHIN, Said

HERE = pathlib.Path(__file__).parent
CONVOKE = os.environ["CONVOKE"]
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
APP = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01"
JOINER = "0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a02"
SECRET = "only-for-tests"
DESK = "278405a3-f568-4b3e-b684-009193463064"
ADA = "7e1b4346-85a6-4bdd-abe3-d11c5d420efe"
BEN = "1e126418-44a0-4a94-a6f8-0efe1ad71acb"
CLEO = "682b6c37-0729-4fab-ace6-d730d5d9137e"
BEA = "5d2c6b3e-0b7f-4c57-9a2a-000000000001"
NICK = "5d2c6b3e-0b7f-4c57-9a2a-000000000002"
SIPP = "5d2c6b3e-0b7f-4c57-9a2a-000000000003"
BARESIP = "5d2c6b3e-0b7f-4c57-9a2a-000000000004"
SOFT = "5d2c6b3e-0b7f-4c57-9a2a-000000000005"


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hook:
    """A bot's webhook: verifies every token with an independent library and keeps what it was told, in order."""

    def __init__(self, certificate, key, port):
        self.told = []
        self.news = threading.Condition()
        self.refuse = 0
        self.metadata_url = None
        self.ca = None
        self.keys = None
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = hook.receive(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request, address):
                super().finish_request(context.wrap_socket(request, server_side=True), address)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def trust(self, base, ca):
        self.metadata_url, self.ca, self.keys = f"{base}/v1/.well-known/OpenIdConfiguration", ca, None

    def receive(self, path, headers, body):
        headers = {name.lower(): value for name, value in headers.items()}
        claims = self.verify(headers["authorization"])
        if self.refuse > 0:
            self.refuse -= 1
            return 503
        document = json.loads(body)
        with self.news:
            for notification in document["value"]:
                self.told.append({"path": path, "headers": headers, "claims": claims, **notification})
            self.news.notify_all()
        return 202

    def verify(self, authorization):
        """As a bot does it: kind, key, signature, issuer, audience, tenant, times."""
        scheme, token = authorization.split(" ")
        assert scheme == "Bearer"
        if self.keys is None:
            metadata = requests.get(self.metadata_url, verify=self.ca, timeout=10).json()
            self.keys = jwt.PyJWKSet.from_dict(requests.get(metadata["jwks_uri"], verify=self.ca, timeout=10).json())
        header = jwt.get_unverified_header(token)
        assert header["alg"] == "RS256"
        claims = jwt.decode(
            token,
            self.keys[header["kid"]].key,
            algorithms=["RS256"],
            audience=[APP, JOINER],
            issuer=["https://api.botframework.com", "https://graph.microsoft.com"],
            options={"require": ["exp", "nbf", "iat", "iss", "aud"]},
        )
        assert claims["tid"] == TENANT
        return claims

    def wait(self, matches, within=WITHIN, since=0):
        """The first notification that matches, from number `since` on."""
        deadline = time.monotonic() + within
        with self.news:
            while True:
                for notification in self.told[since:]:
                    if matches(notification):
                        return notification
                left = deadline - time.monotonic()
                if left <= 0:
                    tail = [(n["changeType"], n["resourceUrl"], n["resourceData"]) for n in self.told[since:]]
                    raise AssertionError(f"not told within {within} s; told: {json.dumps(tail, indent=1)}")
                self.news.wait(left)

    def of_call(self, call):
        return [n for n in self.told if f"/calls/{call}" in n["resourceUrl"]]

    def wait_state(self, call, state, within=WITHIN):
        return self.wait(
            lambda n: n["resourceUrl"].endswith(f"/calls/{call}") and n["resourceData"].get("state") == state, within
        )

    def wait_operation(self, call, operation, within=WITHIN):
        return self.wait(lambda n: n["resourceUrl"].endswith(f"/calls/{call}/operations/{operation}"), within)

    def wait_roster(self, call, users, within=WITHIN):
        """A roster of this call with exactly these users or numbers beside the bot."""

        def is_it(n):
            if not n["resourceUrl"].endswith(f"/calls/{call}/participants"):
                return False
            return people(n["resourceData"]) == sorted(users)

        return self.wait(is_it, within)


def people(roster):
    found = []
    for participant in roster:
        identity = participant["info"]["identity"]
        found += [identity[kind]["id"] for kind in ("user", "phone") if identity.get(kind)]
    return sorted(found)


class Convoke:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.https, self.sip, self.hook_port = free_port(), free_port(), free_port()
        self.trunk = free_port(socket.SOCK_DGRAM)
        self.base = f"https://localhost:{self.https}"
        self.ca = str(self.data / "ca.pem")
        text = (HERE / "directory.toml").read_text()
        self.directory = self.folder / "directory.toml"
        self.directory.write_text(text.replace("{hook}", str(self.hook_port)).replace("{trunk}", str(self.trunk)))
        self.config = self.folder / "convoke.toml"
        self.config.write_text(
            f"""
data = "{self.data}"
[http]
listen = "127.0.0.1:{self.https}"
[sip]
udp_listen = "127.0.0.1:{self.sip}"
tcp_listen = "127.0.0.1:{self.sip}"
[log]
level = "info"
"""
        )
        self.process = None
        self.run("directory", "apply", str(self.directory))
        self.run("cert", "localhost", "--out", str(self.folder))
        self.hook = Hook(self.folder / "localhost.pem", self.folder / "localhost-key.pem", self.hook_port)

    def run(self, *arguments):
        done = subprocess.run(
            [CONVOKE, *arguments, "--config", str(self.config)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *flags):
        command = [CONVOKE, "serve", "--config", str(self.config), *flags]
        self.said = Said(command, self.folder / "server.log")
        self.process = self.said.process
        self.said.wait(" serving ")
        ready = requests.get(f"{self.base}/health/ready", verify=self.ca, timeout=WITHIN)
        assert ready.status_code == 200, ready.text
        self.hook.trust(self.base, self.ca)

    def metrics(self):
        return requests.get(f"{self.base}/metrics", verify=self.ca, timeout=WITHIN).text

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        return self.process.returncode

    def token(self, app=APP):
        form = {
            "client_id": app,
            "client_secret": SECRET,
            "grant_type": "client_credentials",
            "scope": "https://graph.microsoft.com/.default",
        }
        answer = requests.post(f"{self.base}/{TENANT}/oauth2/v2.0/token", data=form, verify=self.ca, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def ask(self, method, path, body=None, app=APP, version="v1.0", headers=None):
        headers = {"Authorization": f"Bearer {self.token(app)}", **(headers or {})}
        url = path if path.startswith("https:") else f"{self.base}/{version}{path}"
        return requests.request(method, url, json=body, headers=headers, verify=self.ca, timeout=30)

    # What most stories begin with.

    def callback(self):
        return f"https://localhost:{self.hook_port}/api/calls?story=1"

    def place(self, *targets, version="v1.0"):
        body = {
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": self.callback(),
            "requestedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "tenantId": TENANT,
            "targets": [{"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": t} for t in targets],
        }
        answer = self.ask("POST", "/communications/calls", body, version=version)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def talk(self, *targets, version="v1.0"):
        """A call in which all of these people are."""
        call = self.place(*targets, version=version)
        self.hook.wait_state(call["id"], "established")
        if len(targets) > 1:
            wanted = [(t.get("user") or t["phone"])["id"] for t in targets]
            self.hook.wait_roster(call["id"], wanted)
        return call["id"]

    def meeting(self):
        body = {"subject": "Stand-up", "startDateTime": "2026-11-23T13:00:00+00:00", "endDateTime": "2026-11-23T14:00:00+00:00"}
        answer = self.ask("POST", f"/users/{DESK}/onlineMeetings", body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def join(self, meeting):
        body = {
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": self.callback(),
            "requestedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "tenantId": TENANT,
            "chatInfo": meeting["chatInfo"],
            "meetingInfo": {
                "@odata.type": "#microsoft.graph.organizerMeetingInfo",
                "organizer": meeting["participants"]["organizer"]["identity"],
            },
        }
        answer = self.ask("POST", "/communications/calls", body)
        assert answer.status_code == 201, answer.text
        call = answer.json()["id"]
        self.hook.wait_state(call, "established")
        return call

    def invite(self, call, *participants, context=None, version="v1.0", **headers):
        body = {"participants": list(participants), "clientContext": context}
        return self.ask("POST", f"/communications/calls/{call}/participants/invite", body, version=version, headers=headers)


def user(identity):
    return {"@odata.type": "#microsoft.graph.identitySet", "user": {"@odata.type": "#microsoft.graph.identity", "id": identity}}


def phone(number):
    return {"@odata.type": "#microsoft.graph.identitySet", "phone": {"@odata.type": "#microsoft.graph.identity", "id": number}}


def person(identity, **more):
    kind = phone(identity) if identity.startswith("+") else user(identity)
    return {"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": kind, **more}
