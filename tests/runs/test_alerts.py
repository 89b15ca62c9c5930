"""Messages on runs: against servers on loopback that answer, are dead, slow, refuse or lead away; no secret leaks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.config.alerts import load_alerts
from lsc_engine.runs import alerts
from lsc_engine.runs.alerts import Alerts, Message, deliver, study_done
from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter
from tests import processes
from tests.waiting import LIMIT, wait_until

from .conftest import MakeRun

SECRET = "s3cr3t-t0ken"


@dataclass
class Server:
    """What it received, and how it answers: by the first part of the path."""

    port: int = 0
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    def url(self, how: str = "ok") -> str:
        return f"http://127.0.0.1:{self.port}/{how}/{SECRET}"


@pytest.fixture
def server() -> Iterator[Server]:
    known = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.got.append((self.path, dict(self.headers), body))
            how = self.path.split("/")[1]
            if how == "slow":
                known.held.wait()
                return
            if how == "drip":
                while not known.held.wait(0.01):
                    self.wfile.write(b"x")
                return
            late = sum(path.startswith("/late") for path, _, _ in known.got)
            code = {"refuse": 403, "away": 307, "late": 503 if late < 2 else 200}.get(how, 200)
            self.send_response(code, f"nobody may know {SECRET}")
            self.send_header("Location", f"http://localhost:{known.port}/ok/elsewhere")
            self.end_headers()
            self.wfile.write(SECRET.encode())

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...

    with Quiet(("127.0.0.1", 0), Handler) as running:
        known.port = running.server_address[1]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield known
        known.held.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """alerts.toml of this test. Answers are waited for as long as a busy machine takes for them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(alerts, "_PAUSES", (0.01, 0.01))
    for limit in ("SECONDS", "LAST_SECONDS"):
        monkeypatch.setattr(alerts, limit, LIMIT)
    (tmp_path / "config/lsc").mkdir(parents=True)
    return tmp_path / "config/lsc/alerts.toml"


def dead() -> str:
    """The address of a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/{SECRET}"


def target(config: Path, text: str) -> Any:
    config.write_text(text)
    settings = load_alerts()
    assert settings is not None
    return next(iter(settings.targets.values()))


MESSAGE = Message("failed", "group/study/a/seed-0", "out of memory ✗", {"step": 7}, "gpu07", 5.0)


def test_each_kind_delivers_what_its_service_expects(server: Server, config: Path, tmp_path: Path) -> None:
    said = "group/study/a/seed-0 on gpu07: out of memory ✗"
    assert deliver(target(config, f'[ntfy]\nurl = "{server.url()}"\ntoken = "tk_1"'), MESSAGE) is None
    assert deliver(target(config, f'[slack]\nurl = "{server.url()}"'), MESSAGE) is None
    headers = 'headers = { Authorization = "Basic abc", X-Key = "1" }'
    assert deliver(target(config, f'[webhook]\nurl = "{server.url()}"\n{headers}'), MESSAGE) is None
    (_, ntfy, text), (_, _, slack), (_, hook, document) = server.got
    assert {path for path, _, _ in server.got} == {f"/ok/{SECRET}"}
    assert text.decode() == said
    assert (ntfy["Title"], ntfy["Priority"], ntfy["Authorization"]) == ("lsc: failed", "high", "Bearer tk_1")
    assert json.loads(slack) == {"text": f"failed: {said}"}
    assert (hook["Authorization"], hook["X-Key"]) == ("Basic abc", "1")
    assert json.loads(document) == {
        "event": "failed", "run": "group/study/a/seed-0", "host": "gpu07", "text": said, "time": 5.0,
        "values": {"step": 7},
    }  # fmt: skip
    line = f"{{ cat; echo $LSC_EVENT $LSC_RUN $LSC_HOST; }} > {tmp_path}/out"
    assert deliver(target(config, f"[command]\nrun = '{line}'"), MESSAGE) is None
    assert (tmp_path / "out").read_text() == f"{said}\nfailed group/study/a/seed-0 gpu07\n"


def test_the_bell_rings_in_the_terminal_of_the_process(tmp_path: Path) -> None:
    import pty

    (tmp_path / "config/lsc/alerts.toml").write_text("[bell]\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "lsc_engine", "alerts", "--test"])
    shown = b""
    try:
        while block := os.read(terminal, 1000):
            shown += block
    except OSError:  # the terminal of a process that has ended
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"\a" in shown
    assert b"delivered" in shown


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("refuse", "was answered with HTTP 403"),
        ("away", "was answered with HTTP 307"),
        ("slow", "was not answered within 0 s"),
    ],
)
def test_a_failure_is_named_without_the_answer_of_the_server(
    server: Server, config: Path, monkeypatch: pytest.MonkeyPatch, how: str, why: str
) -> None:
    if how == "slow":
        monkeypatch.setattr(alerts, "SECONDS", 0.2)
    failure = deliver(target(config, f'[slack]\nurl = "{server.url(how)}"'), MESSAGE)
    assert failure is not None
    assert (failure.why, failure.again) == (why, False)
    wait_until(lambda: server.got)
    assert len(server.got) == 1


def test_other_failures(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_one = deliver(target(config, f'[slack]\nurl = "{dead()}"'), MESSAGE)
    assert dead_one == alerts.Failure("the connection was refused", again=True)
    nowhere = deliver(target(config, f'[slack]\nurl = "http://no.such.host.invalid/{SECRET}"'), MESSAGE)
    assert nowhere == alerts.Failure("the server's name was not found", again=True)
    assert deliver(target(config, "[command]\nrun = 'exit 3'"), MESSAGE) == alerts.Failure("ended with exit code 3")
    monkeypatch.setattr(alerts, "SECONDS", 0.2)
    slow = deliver(target(config, "[command]\nrun = 'sleep 60 & sleep 60'"), MESSAGE)
    assert slow == alerts.Failure("was ended after 0 s")


@pytest.mark.parametrize(
    ("how", "seconds", "times", "note"),
    [("late", LIMIT, 2, []), ("slow", 0.2, 1, ["alert not sent to slack: was not answered within 0 s"])],
)
def test_a_message_is_sent_again_only_where_it_did_not_arrive(
    server: Server, config: Path, monkeypatch: pytest.MonkeyPatch, how: str, seconds: float, times: int, note: list[str]
) -> None:
    monkeypatch.setattr(alerts, "SECONDS", seconds)
    config.write_text(f'[slack]\nurl = "{server.url(how)}"\n')
    noted: list[str] = []
    sending = Alerts("study", noted.append)
    sending.send("failed", "x")
    sending.close()
    wait_until(lambda: server.got)
    assert len(server.got) == times
    assert noted == note


def test_a_target_that_hangs_delays_the_end_by_a_bounded_time_and_no_other(
    server: Server, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that never ends, byte by byte, outlasts every timeout of a socket."""
    kinds = [f'[[slack]]\nurl = "{url}"\n' for url in (server.url("drip"), server.url("ok"), dead())]
    config.write_text("".join(kinds))
    noted: list[str] = []
    sending = Alerts("study", noted.append)
    for number in range(3):
        sending.send("failed", f"message {number}")

    def received() -> list[str]:
        return [json.loads(body)["text"][-1] for path, _, body in server.got if path.startswith("/ok")]

    refused = "alert not sent to slack 3: the connection was refused"
    wait_until(lambda: received() == ["0", "1", "2"] and noted.count(refused) == 3)
    monkeypatch.setattr(alerts, "LAST_SECONDS", 0.4)
    sending.close()
    assert noted.count("alert not sent to slack 1: no answer yet") == 1
    assert noted.count(refused) == 3


def test_only_the_events_that_a_target_wants(server: Server, config: Path) -> None:
    config.write_text(f'[slack]\nurl = "{server.url()}"\non = ["failed", "level reached"]\n')
    levels = {"train/loss": [0.5, 0.2], "val/accuracy": [0.9]}
    sending = Alerts("r", print, levels=levels, best={"train/loss": 0.45})
    sending.metrics(10, {"train/loss": 0.4, "val/accuracy": 0.2})
    sending.metrics(20, {"train/loss": float("nan")})
    sending.metrics(30, {"train/loss": 0.1, "val/accuracy": 0.95})
    sending.metrics(40, {"train/loss": 0.1, "val/accuracy": 0.95})
    sending.ended(Status(seconds=3, step=40), "finished", "")
    sending.ended(Status(), "stopped", "")
    sending.ended(Status(seconds=3, step=40, metrics={"train/loss": float("nan")}), "failed", "out\n of\x1b memory")
    sending.close()
    texts = [json.loads(body)["text"].partition(": ")[2].partition(": ")[2] for _, _, body in server.got]
    assert texts == [
        "train/loss 0.1 has reached the level 0.2 at step 30",
        "val/accuracy 0.95 has reached the level 0.9 at step 30",
        "failed after 3 s at step 40: out of memory",
    ]


def test_the_limit_holds_across_processes_and_counts_what_it_left_out(server: Server, config: Path) -> None:
    config.write_text(f'most_per_hour = 3\n[slack]\nurl = "{server.url()}"\n')
    for number in range(5):
        alerts.announce("r", "failed", f"message {number}", print)
    assert len(server.got) == 3
    # What comes once, such as the end of a study, always goes.
    for _ in range(2):
        alerts.announce("r", "study done", "the end", print, once="study")
    assert len(server.got) == 4
    state = config.parent / ".alerts-slack.json"
    known = json.loads(state.read_text())
    assert known["left"] == 0
    assert json.loads(server.got[-1][2])["text"].endswith("the end (2 earlier messages were left out)")
    alerts.announce("r", "failed", "message 5", print)
    assert len(server.got) == 4
    assert SECRET not in state.read_text()
    state.write_text(json.dumps(known | {"times": [time - 3601 for time in known["times"]]}))
    alerts.announce("r", "failed", "message 6", print)
    assert json.loads(server.got[-1][2])["text"].endswith("message 6")
    for damaged in ("{", "[]", '{"times": 3, "once": {}, "left": "x"}', '{"times": [null, "a", 1e999]}'):
        state.write_text(damaged)
        alerts.announce("r", "failed", "again", print)
    assert len(server.got) == 9


def test_without_a_place_for_its_state_the_limit_holds_in_the_process(
    server: Server, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f'most_per_hour = 2\n[slack]\nurl = "{server.url()}"\n')
    (config.parent / ".alerts-slack.json").mkdir()
    monkeypatch.setattr(alerts, "_sent", {})
    for number in range(4):
        alerts.announce("r", "failed", f"message {number}", print)
    assert len(server.got) == 2


def test_a_study_is_done_once_when_its_last_run_has_ended(server: Server, config: Path, make_run: MakeRun) -> None:
    config.write_text(f'[slack]\nurl = "{server.url()}"\n')
    folders = [make_run(variant=variant) for variant in ("a", "b", "c")]
    root = folders[0].parents[3]
    study_done(root, "group/study", print)
    for number, folder in enumerate(folders):
        state = "failed" if number == 2 else "finished"
        write_status(folder, replace(read_status(folder), state=state, heartbeat=100.0 + number))
    # As two processes that each saw the end of its last run.
    study_done(root, "group/study", print)
    study_done(root, "group/study", print)
    (body,) = (json.loads(body)["text"] for _, _, body in server.got)
    assert body.endswith("done: 2 finished, 1 failed")
    write_status(folders[2], replace(read_status(folders[2]), state="finished", heartbeat=200.0))
    study_done(root, "group/study", print)
    assert len(server.got) == 2


def test_a_run_whose_heartbeats_stop_is_stalled_once(
    server: Server, config: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(f'[slack]\nurl = "{server.url()}"\non = ["stalled"]\n')
    monkeypatch.setattr(alerts, "_LOOK_SECONDS", 0.01)
    with RunWriter.open(make_run(), device="cpu", total_steps=100, echo=False) as writer:
        sending = Alerts("r", writer.message, stalled=lambda: writer.stalled)
        assert writer.stalled == ""
        writer.status(state="running")
        writer.heartbeat(1)
        writer.heartbeat(2)
        assert writer.stalled == ""
        monkeypatch.setattr("lsc_engine.runs.folder.status.MIN_PATIENCE", -1.0)
        writer._status = replace(writer.current, pace=0.0)
        wait_until(lambda: server.got)
        monkeypatch.undo()
        sending.close()
    assert len(server.got) == 1
    assert "no step for" in json.loads(server.got[0][2])["text"]


BAD = [
    ("[slck]\nurl = 'https://a'", 'slck: unknown key; did you mean "slack"?'),
    (f"[slack]\nurl = 'htp://{SECRET}'", "slack.url: an address is needed"),
    (f"[slack]\nurl = 'https://u:{SECRET}@a/'", "slack.url: an address is needed"),
    (f"[slack]\nurl = 'https://{SECRET}:99999/'", "slack.url: an address is needed"),
    (f"[slack]\nurl = ['{SECRET}']", "slack.url: a text in quotes is needed"),
    (f"slack = '{SECRET}'", "slack: a table is needed"),
    (f"[[slack]]\nurl = 'https://a'\n[[slack]]\nulr = '{SECRET}'", 'slack 2.ulr: unknown key; did you mean "url"?'),
    (f"[webhook]\nurl = 'https://a'\nheaders = '{SECRET}'", "webhook.headers: a table is needed"),
    (f"[webhook]\nurl = 'https://a'\nheaders = {{ on = ['{SECRET}'] }}", "webhook.headers.on: a text in quotes"),
    (f"[webhook]\nurl = 'https://a'\nheaders = {{ 'A B' = '{SECRET}' }}", "webhook.headers: a header's name"),
    (f"[ntfy]\nurl = 'https://a'\ntoken = \"{SECRET}\\r\\nX: 1\"", "ntfy.token: a text of printable ASCII"),
    ("[bell]\non = ['finishd']", 'bell.on: "finishd" is not an event; did you mean "finished"?'),
    ("most_per_hour = 0", "most_per_hour: a whole number from 1 to 3600 is needed, not 0"),
    (f"[slack]\nurl = '{SECRET}", "alerts.toml is not TOML"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_bad_file_is_a_sentence_without_its_values(config: Path, text: str, sentence: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError) as error:
        load_alerts()
    assert sentence in str(error.value)
    assert str(config) in str(error.value)
    assert SECRET not in str(error.value)
    noted: list[str] = []
    Alerts("r", noted.append).close()
    assert noted == [f"note: no alerts are sent: {error.value}"]


def test_secrets_are_not_shown_by_the_objects(config: Path) -> None:
    text = f'[webhook]\nurl = "https://a/{SECRET}"\nheaders = {{ A = "{SECRET}" }}\n[command]\nrun = "{SECRET}"\n'
    target(config, f'{text}[ntfy]\nurl = "https://{SECRET}"\ntoken = "{SECRET}"\n')
    settings = load_alerts()
    assert len(settings.targets) == 3  # type: ignore[union-attr]
    assert SECRET not in f"{settings} {settings!r}"


def engine(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return processes.call(*words, env={"NO_COLOR": "1"}, **more)


def test_the_command_tests_every_target(server: Server, config: Path, tmp_path: Path) -> None:
    absent = engine("alerts", "--test")
    assert absent.returncode == 2
    assert "there is no such file" in absent.stderr
    (tmp_path / "dotfiles.toml").write_text(
        f'[ntfy]\nurl = "{server.url()}"\n[slack]\nurl = "{server.url("refuse")}"\n'
        f'[command]\nrun = "exit 0 # {SECRET}"\n'
    )
    config.symlink_to(tmp_path / "dotfiles.toml")
    done = engine("alerts", "--test", "--json")
    assert done.returncode == 1
    results = {one["name"]: (one["delivered"], one["problem"]) for one in json.loads(done.stdout)["targets"]}
    assert results == {
        "ntfy": (True, None), "slack": (False, "was answered with HTTP 403"), "command": (True, None),
    }  # fmt: skip
    assert len(server.got) == 2
    listed = engine("alerts")
    assert listed.returncode == 0
    assert "finished, failed, diverged" in listed.stdout
    config.unlink()
    config.write_text(f"[slack]\nulr = '{SECRET}'\n")
    bad = engine("alerts", "--test")
    assert bad.returncode == 2
    assert 'slack.ulr: unknown key; did you mean "url"?' in bad.stderr
    assert SECRET not in "".join(one.stdout + one.stderr for one in (done, listed, bad))


PRESET = """
data.dataset = "digits"
model = { name = "mlp", width = 0.1 }
target.method = "ce"
train = { duration = "1 epochs", batch_size = 64 }
compare.levels = { "train/accuracy" = [0.0001, 1.0] }
[[variants]]
name = "good"
[[variants]]
name = "bad"
optimizer.name = "sgd"
optimizer.lr = 1000.0
"""


@pytest.mark.parametrize("how", ["ok", "refuse", pytest.param("slow", marks=pytest.mark.slow), "bad file"])
def test_a_study_sends_its_messages_and_keeps_its_secrets(
    server: Server, config: Path, tmp_path: Path, how: str
) -> None:
    (tmp_path / "two.toml").write_text(PRESET)
    config.write_text(
        f'[[slack]]\nurl = "{server.url(how)}"\n[[slack]]\nurl = "{dead()}"\n'
        f'[webhook]\nurl = "{server.url(how)}"\nheaders = {{ Authorization = "{SECRET}" }}\non = ["diverged"]\n'
        f'[command]\nrun = "cat > /dev/null # {SECRET}"\n'
    )
    if how == "bad file":
        config.write_text(f"[slack]\nulr = '{SECRET}'\n")
    done = engine("run", "two.toml", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    folders = {name: tmp_path / "runs/two" / name / "seed-0" for name in ("good", "bad")}
    assert [read_status(folder).state for folder in folders.values()] == ["finished", "diverged"]
    log = (folders["good"] / "log.txt").read_text()
    if how == "bad file":
        assert "no alerts are sent: " in log
        assert 'did you mean "url"' in log
    else:
        messages = sorted(json.loads(b)["text"].partition(" ")[0] for p, h, b in server.got if "Authorization" not in h)
        if how != "slow":
            assert messages == ["diverged:", "finished:", "level", "study"]
        assert [json.loads(b)["event"] for _, h, b in server.got if "Authorization" in h] == ["diverged"]
        assert "alert not sent to slack 2: the connection was refused" in log + done.stderr
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert SECRET not in done.stdout + done.stderr
