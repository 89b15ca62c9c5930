"""A real Slurm on this machine: munged, slurmctld and a slurmd for each node, on loopback, everything in one folder.

Where namespaces may be made every node has its own host name and its own process ids, as on a cluster. Nothing here
ends a job or a node because the machine is slow: what fails is made to fail by a test.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import wait_until

# setpriv: nothing of a cluster outlives the tests, however they end.
PROGRAMS = ("setpriv", "munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONFIG = """ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmdTimeout=600
MaxArraySize=2
FirstJobId={first_job}
KillWait=15
MinJobAge=3600
InactiveLimit=0
MessageTimeout=60
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""


def missing() -> str:
    """Which programs of Slurm are not here, as a reason to skip; "" if all are."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"needs {', '.join(lacking)} (Debian: slurmctld slurmd slurm-client munge)" if lacking else ""


@dataclass
class Cluster:
    """Nodes n1, n2, … with 4 processors and 2 pretended GPUs each, in the partitions `low`, whose jobs are requeued
    for those of `high` after a grace time, and `high`."""

    folder: Path
    nodes: int
    _servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def start(self) -> None:
        for name in ("state", "log", "munge"):
            (self.folder / name).mkdir(parents=True)
        for place in (self.folder, self.folder / "munge"):
            place.chmod(0o755)
        self._configure()
        key = self.folder / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        munge = self.folder / "munge"
        self._serve("munged", "munged", "--foreground", f"--socket={munge}/socket", f"--key-file={key}",
                    f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--force",
                    "--num-threads=2")  # fmt: skip
        wait_until((munge / "socket").exists, "munged")
        self._serve("slurmctld", "slurmctld", "-D", "-c")
        for number in range(1, self.nodes + 1):
            self.up(f"n{number}")
        idle = ("sinfo", "-h", "-t", "idle", "-N", "-p", "low", "-o", "%N")
        wait_until(
            lambda: len(self.run(*idle, check=False).split()) == self.nodes, lambda: self._log("slurmctld"), every=0.1
        )

    def run(self, *words: str, check: bool = True) -> str:
        """The output of one of Slurm's programs, which must not fail unless `check` is false."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def up(self, node: str) -> None:
        """Start a node, or start it again."""
        (self.folder / "spool" / node).mkdir(parents=True, exist_ok=True)
        # Only a process that stays keeps the namespaces of its node when slurmd is gone.
        words = self._isolated()
        name = f"hostname {node}; " if words else ""
        self._serve(node, *words, "bash", "-c", f"{name}slurmd -N {node} -D & while :; do wait; sleep 0.2; done")

    def crash(self, node: str) -> None:
        """The node loses its power: slurmd and all processes of its jobs are gone, and Slurm learns of it."""
        self._kill(node)
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def cut(self, node: str) -> None:
        """The node loses the network: its jobs go on unseen, and Slurm takes it for down."""
        self._kill_all(f"slurmd -N {node} -D")
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def stop(self) -> None:
        self.run("scancel", "-u", getpass.getuser(), check=False)
        for name in [*self._servers][::-1]:
            self._kill(name)
        # Without namespaces the processes of jobs outlive their nodes.
        self._kill_all()

    def _configure(self) -> None:
        host, user, files = socket.gethostname(), getpass.getuser(), ("null", "zero")
        ports = _free_ports(self.nodes + 1)
        names = [f"n{number}" for number in range(1, self.nodes + 1)]
        # Processes of one run meet at a port that follows from its job: those of another cluster here have others.
        first_job = 1 + os.getpid() % 50_000 * 1_000
        text = CONFIG.format(host=host, user=user, folder=self.folder, port=ports[0], first_job=first_job)
        for name, port in zip(names, ports[1:], strict=True):
            text += f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            text += "CPUs=4 RealMemory=4000 Gres=gpu:2\n"
        nodes = ",".join(names)
        text += (
            f"PartitionName=low Nodes={nodes} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=300 MaxTime=60\n"
        )
        text += f"PartitionName=high Nodes={nodes} PriorityTier=10 PreemptMode=OFF MaxTime=60\n"
        (self.folder / "slurm.conf").write_text(text)
        gres = [f"NodeName={name} Name=gpu File=/dev/{file}\n" for name in names for file in files]
        (self.folder / "gres.conf").write_text("".join(gres))

    def _isolated(self) -> tuple[str, ...]:
        """The words that give a command its own host name and process ids; none where that is not allowed."""
        for words in ((), ("--user", "--map-current-user", "--keep-caps")):
            command = ("unshare", *words, "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
            if subprocess.run([*command, "hostname", "x"], capture_output=True, check=False).returncode == 0:
                return command
        return ()

    def _serve(self, name: str, *words: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            environment = {**os.environ, **self.environment}
            self._servers[name] = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", *words),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        server = self._servers.pop(name, None)
        if server is None:
            return
        with suppress(OSError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def _kill_all(self, command: str = "") -> None:
        """Kill the processes of this cluster with that command line, by default all. Another cluster has nodes of the
        same names."""
        mark = f"SLURM_CONF={self.folder}/".encode()
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().replace(b"\0", b" ").decode().strip()
                if mark in (entry.parent / "environ").read_bytes() and command in ("", words):
                    os.kill(int(entry.parent.name), signal.SIGKILL)

    def _log(self, name: str) -> str:
        return "\n".join((self.folder / "log" / f"{name}.log").read_text().splitlines()[-20:])


def _free_ports(count: int) -> list[int]:
    """Ports below those that outgoing connections take by themselves, and below those where the processes of a run
    meet."""
    found: list[int] = []
    for port in range(10_000 + os.getpid() % 5_000, 20_000):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found
