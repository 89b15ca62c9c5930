"""`lsc-tui --serve [PORT]`: the viewer in a browser on this machine, one process for each open tab, by textual-serve.

Every address starts with a token drawn at each start. It is a part of the path, not a cookie, since browsers send the
cookies of 127.0.0.1 to all its ports, those of other users' servers too. Pages of other sites get in neither by a name
that resolves to 127.0.0.1 (Host) nor by a socket (Origin).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import secrets
import shlex
import socket
import sys
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

HOST = "127.0.0.1"
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")
# An application that has not ended by then is killed (seconds).
PATIENCE = 5.0
MOUSE_ON = {f"\x1b[?{mode}h".encode() for mode in (1000, 1003, 1006, 1015)}
# Keys go to the terminal as soon as its socket is open, which textual.js shows by a class of the body.
FOCUS = """addEventListener("load", () => new MutationObserver(() =>
  document.querySelector(".xterm-helper-textarea").focus()).observe(document.body, { attributeFilter: ["class"] }))"""
PAGE = (
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>lsc-tui</title>
<link rel="stylesheet" href="static/css/xterm.css">
<style>
@font-face { font-family: "Roboto Mono"; font-weight: 100 700;
             src: url("static/fonts/RobotoMono-VariableFont_wght.ttf") }
html, body, .textual-terminal { margin: 0; height: 100%%; overflow: hidden; background: #000 }
p { display: none; position: fixed; inset: 0; z-index: 9; margin: auto; height: 3em; text-align: center;
    background: #000; color: #fff; font: 16px/3em "Roboto Mono", monospace }
p a { color: inherit }
.-closed p { display: block }
</style>
<script src="static/js/textual.js"></script>
<script>"""
    + FOCUS
    + """</script>
</head>
<body>
<p role="status">lsc-tui has ended. <a href="">Start again</a></p>
<div class="textual-terminal" data-session-websocket-url="ws://%s/%s/ws" data-font-size="%d"></div>
</body>
</html>
"""
)
POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{b64encode(sha256(FOCUS.encode()).digest()).decode()}'; "
    "style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; "
    "connect-src ws://%s; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class BrowserApp(AppService):
    """The viewer's process behind one tab."""

    def __init__(self, words: Sequence[str], tab: web.WebSocketResponse, server: Server, *, mouse: bool) -> None:
        super().__init__(
            f"exec env -u COLORFGBG TERM=xterm-256color COLORTERM=truecolor {shlex.join(words)}",
            write_bytes=tab.send_bytes,
            write_str=tab.send_str,
            close=tab.close,  # type: ignore[arg-type]
            download_manager=server.download_manager,
        )
        self.mouse = mouse

    async def on_data(self, payload: bytes) -> None:
        # Textual's driver for browsers always turns the mouse on.
        if self.mouse or payload not in MOUSE_ON:
            # What a closed tab no longer takes is still read, or the application could not end.
            with contextlib.suppress(ConnectionError):
                await super().on_data(payload)

    async def run(self) -> None:
        await super().run()
        with contextlib.suppress(ConnectionError):
            await self.remote_close()

    async def stop(self) -> None:
        if self._process is None or self._task is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.send_meta({"type": "quit"})
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._task
        self.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self.stdin.wait_closed()


class LocalServer(Server):
    """Page, socket and static files below `/<token>/`; `words` is the command line of the viewer."""

    def __init__(self, words: Sequence[str], *, mouse: bool = False) -> None:
        super().__init__("lsc-tui", host=HOST)
        self.words, self.mouse = words, mouse
        self.token = secrets.token_urlsafe(24)
        self.tabs: set[web.WebSocketResponse] = set()

    async def _make_app(self) -> web.Application:
        app = web.Application(middlewares=[self.guard])
        app.router.add_get(f"/{self.token}/", self.handle_index)
        app.router.add_get(f"/{self.token}/ws", self.handle_websocket)
        app.router.add_static(f"/{self.token}/static", self.statics_path)
        app.on_shutdown.append(self.on_shutdown)
        return app

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other host names, other origins and a wrong token; any port may be forwarded here."""
        origin, token = request.headers.get("Origin"), request.path.split("/")[1]
        if (
            not LOOPBACK.fullmatch(request.host)
            or origin not in (None, f"http://{request.host}")
            or not secrets.compare_digest(token.encode(), self.token.encode())
        ):
            raise web.HTTPForbidden(text="Open the address that lsc-tui --serve printed.\n")
        return await handler(request)

    async def handle_index(self, request: web.Request) -> web.Response:
        page = PAGE % (request.host, self.token, to_int(request.query.get("fontsize", ""), 16))
        headers = {
            "Content-Security-Policy": POLICY % request.host,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        tab = web.WebSocketResponse(heartbeat=15, timeout=2)
        await tab.prepare(request)
        app = BrowserApp(self.words, tab, self, mouse=self.mouse)
        self.tabs.add(tab)
        try:
            await app.start(*(to_int(request.query.get(name, ""), 80) for name in ("width", "height")))
            await self._process_messages(tab, app)
        finally:
            try:
                await app.stop()
            finally:
                self.tabs.discard(tab)
        return tab

    async def on_shutdown(self, app: web.Application) -> None:
        await asyncio.gather(*(tab.close() for tab in self.tabs))


def command(options: argparse.Namespace) -> list[str]:
    """The command line of the viewer with the options given beside --serve."""
    out = [sys.executable, "-m", "lsc_tui", *(f"--runs-dir={folder}" for folder in options.runs_dir)]
    out += [f"--plugin={path}" for path in options.plugin]
    out += [f"--{name}" for name in ("demo", "ascii", "mouse") if getattr(options, name)]
    return out + ([] if options.theme is None else [f"--theme={options.theme}"])


def serve(options: argparse.Namespace, *, mouse: bool) -> int:
    """Serve until Ctrl-C; the exit code."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, options.serve))
        except (OSError, OverflowError) as error:
            words = "a port is 0 to 65535" if isinstance(error, OverflowError) else str(error)
            print(f"lsc-tui: port {options.serve}: {words}; --serve 0 takes a free one", file=sys.stderr)
            return 2
        server = LocalServer(command(options), mouse=mouse)
        listener.listen()
        print(f"http://{HOST}:{listener.getsockname()[1]}/{server.token}/\nCtrl-C ends it and all its tabs", flush=True)
        web.run_app(server._make_app(), sock=listener, print=None, access_log=None, shutdown_timeout=2 * PATIENCE)
    return 0
