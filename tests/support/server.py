"""A Fireside process of a Python test's own; the Node twin of this file is server.mjs, whose namespaces it shares."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("FIRESIDE_BIN") or ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "ci/fireside"
TOKEN_SECRET = "a secret of the tests, thirty-two bytes or more"
API_KEY = "an-API-key-of-the-tests-and-of-nobody-else"
NAMESPACES = re.search(r"const NAMESPACES = `(.*?)`", (ROOT / "tests/support/server.mjs").read_text(), re.S).group(1)


class Server:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="fireside-test-"))
        self.port, self.internal = free_port(), free_port()
        (self.dir / "token").write_text(TOKEN_SECRET)
        (self.dir / "api").write_text(API_KEY)
        (self.dir / "fireside.toml").write_text(f"""
[server]
listen = "127.0.0.1:{self.port}"
internal_listen = "127.0.0.1:{self.internal}"
[data]
dir = "{self.dir / 'data'}"
[token]
hmac_secret_file = "{self.dir / 'token'}"
[[api.key]]
id = "backend"
secret_file = "{self.dir / 'api'}"
{NAMESPACES}""")
        self.ws = f"ws://127.0.0.1:{self.port}/connection/websocket"

    def run(self):
        self.output = open(self.dir / "output", "ab")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--config", self.dir / "fireside.toml"], stdout=self.output, stderr=self.output, cwd=self.dir
        )
        end = time.monotonic() + 30
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("the server is not ready:\n" + (self.dir / "output").read_text())
            time.sleep(0.01)
        return self

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.internal}/readyz", timeout=1).status == 200
        except OSError:
            return False

    def kill(self):
        """kill -9, and the corpse is awaited."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.kill()
        shutil.rmtree(self.dir)

    def api(self, method, **body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{method}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-API-Key": API_KEY},
        )
        return json.load(urllib.request.urlopen(request, timeout=10))["result"]


def token(user, ttl=3600, secret=TOKEN_SECRET, **claims):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    payload = {"sub": user, "exp": int(time.time()) + ttl, **claims}
    body = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(payload).encode())
    return (body + b"." + part(hmac.new(secret.encode(), body, hashlib.sha256).digest())).decode()


async def until(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        await asyncio.sleep(0.005)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
