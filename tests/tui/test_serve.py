"""`lsc-tui --serve`: who gets in, what a tab starts and ends, and the page in real Chromium."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lsc_tui.__main__ import main
from tests.waiting import LIMIT, wait_until

aiohttp = pytest.importorskip("aiohttp", reason="textual-serve is not installed: pip install 'lsc[serve]'")
serve = pytest.importorskip("lsc_tui.serve", reason="textual-serve is not installed: pip install 'lsc[serve]'")
from aiohttp.test_utils import TestClient, TestServer  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# Stands for the viewer where a test must not start one.
NEVER = [sys.executable, "-c", "raise SystemExit('started')"]


@pytest.fixture
async def client() -> AsyncIterator[tuple[Any, str]]:
    server = serve.LocalServer(NEVER)
    async with TestClient(TestServer(await server._make_app(), host="127.0.0.1")) as found:
        yield found, f"/{server.token}/"
        while server.tabs:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program at work on the examples, on a free port, and its address."""
    words = [sys.executable, "-m", "lsc_tui", "--serve", "0", "--demo"]
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | home, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("path", ["", "ws", "static/js/textual.js", "static/", "download/x"])
async def test_only_the_token_opens(client: tuple[Any, str], path: str) -> None:
    inside, home = client
    for prefix in ("/", f"/{'x' * (len(home) - 2)}/", home[:-2] + "/", home.upper(), f"/?token={home[1:-1]}&"):
        assert (await inside.get(prefix + path)).status == 403
    good = {"": 200, "static/js/textual.js": 200, "static/": 403, "download/x": 404}
    if path in good:
        assert (await inside.get(home + path)).status == good[path]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": '127.0.0.1:1">'},
    ],
)
async def test_foreign_origins_and_hosts_are_refused(client: tuple[Any, str], headers: dict[str, str]) -> None:
    inside, home = client
    for path in ("", "static/css/xterm.css"):
        assert (await inside.get(home + path, headers=headers)).status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await inside.ws_connect(home + "ws", headers=headers)


async def test_page_names_no_other_place(client: tuple[Any, str]) -> None:
    inside, home = client
    answer = await inside.get(home, headers={"Host": "localhost:9"})
    page = await answer.text()
    assert re.findall(r"[a-z]+://[^\"]*", page) == [f"ws://localhost:9{home}ws"]
    assert "connect-src ws://localhost:9;" in answer.headers["Content-Security-Policy"]


async def test_program_that_does_not_start_closes_its_tab(
    client: tuple[Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    inside, home = client
    async with inside.ws_connect(home + "ws") as tab:
        assert (await tab.receive()).type == aiohttp.WSMsgType.CLOSE
    assert "started" in capsys.readouterr().out


def test_options_are_passed_on() -> None:
    from lsc_tui.__main__ import parser

    given = [
        "--runs-dir=a b;c",
        "--runs-dir=-x",
        "--plugin=p q.py",
        "--demo",
        "--ascii",
        "--mouse",
        "--theme=lsc-light",
    ]
    words = serve.command(parser().parse_args([*given, "--serve"]))
    assert words[:3] == [sys.executable, "-m", "lsc_tui"]
    assert words[3:] == given


def test_missing_package_and_taken_port_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 70000):
            with pytest.raises(SystemExit, match="2"):
                main(["--demo", "--serve", str(port)])
            assert "--serve 0 takes a free one" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    with pytest.raises(SystemExit, match="2"):
        main(["--demo", "--serve"])
    assert "pip install 'lsc[serve]'" in capsys.readouterr().err


async def shown(tab: Any, *words: str) -> None:
    """Read what the application draws until all words have come."""
    text = ""
    while not all(word in text for word in words):
        message = await tab.receive(timeout=LIMIT)
        assert message.type == aiohttp.WSMsgType.BINARY, text
        assert b"\x1b[?1003h" not in message.data, "the mouse is on"
        text += ESCAPES.sub("", message.data.decode())


async def test_tab_starts_one_process_and_ends_it(served: tuple[subprocess.Popen[str], str]) -> None:
    process, address = served
    own = psutil.Process(process.pid)
    assert {one.laddr.ip for one in own.net_connections("inet")} == {"127.0.0.1"}
    async with aiohttp.ClientSession() as session:
        for by_key in (False, True):
            async with session.ws_connect(f"{address}ws?width=100&height=30") as tab:
                await shown(tab, "Runs", "demo")
                assert len(own.children()) == 1
                await tab.send_json(["stdin", "4"])
                await shown(tab, "by paper")
                if by_key:
                    await tab.send_json(["stdin", "q"])
                    while (await tab.receive(timeout=LIMIT)).type == aiohttp.WSMsgType.BINARY:
                        pass
            await asyncio.to_thread(wait_until, lambda: not own.children(recursive=True))
        tab = await session.ws_connect(f"{address}ws")
        await shown(tab, "Runs")
        (child,) = own.children()
        process.send_signal(signal.SIGINT)
        assert (await tab.receive(timeout=LIMIT)).type is not None
        await tab.close()
    assert await asyncio.to_thread(process.wait, LIMIT) == 0
    assert not child.is_running()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_chromium_shows_the_app_and_asks_nowhere_else(
    served: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    _, address = served
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
    words.append("--remote-debugging-port=0")
    profile = tmp_path / "profile"
    with subprocess.Popen([str(CHROMIUM), *words, f"--user-data-dir={profile}"], stderr=subprocess.PIPE) as browser:
        try:
            found = profile / "DevToolsActivePort"
            port = await asyncio.to_thread(wait_until, lambda: found.is_file() and found.read_text().split("\n")[0])
            async with aiohttp.ClientSession() as session:
                async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                    debugger = (await answer.json())["webSocketDebuggerUrl"]
                async with session.ws_connect(debugger, max_msg_size=0) as page:
                    await drive(page, address)
        finally:
            browser.kill()


async def drive(page: Any, address: str) -> None:
    text, requested, faults = "", [], []

    async def until(word: str) -> None:
        """Read events until a word is drawn."""
        nonlocal text
        text = ""
        while word not in text:
            event = await page.receive_json(timeout=LIMIT)
            match event.get("method"):
                case "Inspector.targetCrashed":
                    pytest.fail("Chromium's page crashed")
                case "Network.requestWillBeSent":
                    requested.append(event["params"]["request"]["url"])
                case "Network.webSocketCreated":
                    requested.append(event["params"]["url"])
                case "Network.webSocketFrameReceived" if event["params"]["response"]["opcode"] == 2:
                    data = base64.b64decode(event["params"]["response"]["payloadData"])
                    text += ESCAPES.sub("", data.decode())
                case "Log.entryAdded" | "Runtime.exceptionThrown":
                    faults.append(event["params"])

    async def send(number: int, method: str, **params: Any) -> None:
        await page.send_json({"id": number, "method": method, "params": params})

    async def call(number: int, method: str, **params: Any) -> None:
        """Send a command and wait for its answer: a page that is still being set up crashes when it navigates."""
        await send(number, method, **params)
        while (await page.receive_json(timeout=LIMIT)).get("id") != number:
            pass

    for number, domain in enumerate(("Network", "Page", "Log", "Runtime")):
        await call(number, f"{domain}.enable")
    await call(4, "Emulation.setFocusEmulationEnabled", enabled=True)
    await send(5, "Page.navigate", url=address)
    await until("Runs")
    await send(6, "Input.dispatchKeyEvent", type="keyDown", text="4", key="4", code="Digit4", windowsVirtualKeyCode=52)
    await until("by paper")
    assert any(one.startswith("ws:") for one in requested)
    base = address.partition("://")[2]
    assert not [one for one in requested if one.partition("://")[2].partition(base)[0] and not one.startswith("data:")]
    assert not faults
