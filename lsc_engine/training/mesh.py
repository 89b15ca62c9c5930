"""The processes that train one run together, each with some parts of every batch.

A run has P = `train.parts` parts of its batch, fixed like its other settings; process r of W computes the parts from
r P / W on. Every part is computed as it would be anywhere else: its rows, batch statistics and random numbers depend on
the part alone. With `train.deterministic` gradients are added up in one fixed binary tree over the parts, so that the
weights are the same bit by bit on any number of processes; else by all_reduce, whose order depends on it.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from lsc_engine.common.errors import LscError
from lsc_engine.data.stream import default_workers
from lsc_engine.training.step import BatchLoss, MicroBatches, first_line

# Called with a sentence when micro-batches were halved.
Halved = Callable[[str], None]
# The first process may pack a data set while the others wait for it.
_PATIENCE = timedelta(hours=12)
# All processes of a step start together: one that does not come has failed.
_ARRIVAL = timedelta(minutes=5)
# Between two runs it may wait for what another task trains; stores count milliseconds in 31 bits.
_LONGEST = timedelta(days=24)
_FAREWELL = timedelta(seconds=10)


class PeerLostError(Exception):
    """Another process of the run has ended; this one's weights are those of the last whole step."""

    def __init__(self) -> None:
        super().__init__("another process of this run ended before its time")


@contextmanager
def _collective() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # gloo and NCCL raise it when a connection closes, or is refused at the start.
        raise PeerLostError from error


@dataclass(frozen=True)
class Mesh:
    """This process among the `size` processes of its run; alone unless `join` was called. Only the one of `rank` 0
    writes the run folder."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device, store: Store | None = None) -> Mesh:
        """The processes that torchrun or srun started together, connected; alone if they started one. `store`: where
        they meet, None for one that they open themselves."""
        if "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            os.environ.update(_srun_environment())
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        backend, rank = "nccl" if device.type == "cuda" else "gloo", int(os.environ["RANK"])
        with _collective():
            dist.init_process_group(backend, timeout=_PATIENCE, store=store, rank=rank, world_size=size)
        return cls(rank, size)

    def leave(self) -> None:
        """Close the connections, if there are any."""
        if self.size > 1:
            dist.destroy_process_group()

    def own_parts(self, parts: int) -> range:
        """The parts of a batch that this process computes."""
        each = parts // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def own_rows(self, batch_size: int) -> range:
        """The rows of a batch that are of these parts."""
        each = batch_size // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    @property
    def data_workers(self) -> int | None:
        """Processes that read images: this one's share of the usual number, None for all."""
        return None if self.size == 1 else max(1, default_workers() // self.size)

    def share(self, value: Any) -> Any:
        """`value` as the first process has it."""
        if self.size > 1:
            values = [value]
            with _collective():
                dist.broadcast_object_list(values)
            value = values[0]
        return value

    def gather(self, value: Any) -> list[Any]:
        """The `value` of every process, in the order of their ranks."""
        values = [value] * self.size
        if self.size > 1:
            with _collective():
                dist.all_gather_object(values, value)
        return values

    def interleave(self, rows: Tensor) -> Tensor:
        """[K, m] of all processes from the rows r, r + W, … that each process r has, on the CPU."""
        parts = self.gather(rows.cpu())
        merged = rows.new_empty((sum(map(len, parts)), *rows.shape[1:]), device="cpu")
        for rank, part in enumerate(parts):
            merged[rank :: self.size] = part
        return merged.to(rows.device)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The block runs in the first process, then in the others."""
        if self.rank:
            self.share(None)
        yield
        if not self.rank:
            self.share(None)

    def sum(self, rows: Sequence[Tensor], deterministic: bool) -> Tensor:
        """The sum [G] of the rows [G] of all parts, those of this process given: in the tree over the parts if
        `deterministic`."""
        if not deterministic:
            total = rows[0]
            for row in rows[1:]:
                total += row
            if self.size > 1:
                with _collective():
                    dist.all_reduce(total)
            return total
        parts = torch.stack(list(rows))
        if self.size > 1:
            others = [torch.empty_like(parts) for _ in range(self.size)]
            with _collective():
                dist.all_gather(others, parts)
            parts = torch.cat(others)
        while len(parts) > 1:
            paired = len(parts) // 2 * 2
            parts = torch.cat([parts[0:paired:2] + parts[1:paired:2], parts[paired:]])
        return parts[0]


ALONE = Mesh()


def _srun_environment() -> dict[str, str]:
    """What torchrun would set, from what srun sets; the meeting point is the first host of the step."""
    env = os.environ
    nodes = env["SLURM_STEP_NODELIST"]
    # "gpu[03-05,9],x1" begins with gpu03.
    first = re.sub(r"^([^\[,]*)(?:\[(\d+))?.*$", r"\1\2", nodes)
    # Below the ports that outgoing connections take by themselves.
    port = 20_000 + (int(env["SLURM_JOB_ID"]) * 7 + int(env.get("SLURM_STEP_ID", 0))) % 12_000
    names = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    own = {"MASTER_ADDR": env.get("MASTER_ADDR", first), "MASTER_PORT": env.get("MASTER_PORT", str(port))}
    return {name: env[slurm] for name, slurm in names.items()} | own


class Jobs:
    """How the first process of a step of srun hands the others the next job, as text, which all of them then train
    together. Opened by all processes together: LscError if they do not meet. A context manager."""

    def __init__(self) -> None:
        env = _srun_environment()
        self._rank, self._size, self._number = int(env["RANK"]), int(env["WORLD_SIZE"]), 0
        host, port, first = env["MASTER_ADDR"], int(env["MASTER_PORT"]), self._rank == 0
        try:
            self._store = TCPStore(host, port, self._size, is_master=first, timeout=_ARRIVAL)
        except dist.DistError as error:
            where = f"the {self._size} processes of this task do not meet at port {port} of {host}"
            raise LscError(
                f"{where}: {first_line(error)}. Submit again, or export MASTER_PORT and MASTER_ADDR in the site's lines"
            ) from None
        self._store.set_timeout(_LONGEST)

    def give(self, job: str) -> Store:
        """In the first process: train this next. Returns where the processes meet for it."""
        self._store.set(f"job {self._number}", job)
        return self._meeting()

    def take(self) -> tuple[str, Store] | None:
        """In the others: wait for what comes next; None when the first process has ended."""
        try:
            job = self._store.get(f"job {self._number}").decode()
            if not job:
                self._store.set(f"left {self._rank}", "")
        except dist.DistError:
            # The store was in the first process.
            return None
        return (job, self._meeting()) if job else None

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *error: object) -> None:
        """The others learn that nothing comes next, before the store is gone with the first process."""
        if self._rank == 0:
            self._store.set(f"job {self._number}", "")
            # One that does not answer has an end of its own.
            with suppress(dist.DistError):
                self._store.wait([f"left {rank}" for rank in range(1, self._size)], _FAREWELL)

    def _meeting(self) -> Store:
        self._number += 1
        return PrefixStore(f"run {self._number}", self._store)


class PartedGradient:
    """The gradient of a batch as the mean of those of its `parts` equal parts, over all processes.

        grad = (1/P) sum_p grad loss_p

    Batch statistics are those of a part. Running statistics change once a step, by the mean over the parts of their
    means and unbiased variances.
    """

    def __init__(
        self, network: nn.Module, micro_batches: MicroBatches, mesh: Mesh, parts: int, deterministic: bool
    ) -> None:
        self._micro, self._mesh, self._parts, self._deterministic = micro_batches, mesh, parts, deterministic
        self._network = network
        kinds = nn.modules.batchnorm._BatchNorm
        norms: list[Any] = [m for m in network.modules() if isinstance(m, kinds) and m.running_mean is not None]
        self._momenta = [norm.momentum for norm in norms]
        for norm in norms:
            # A forward pass then leaves the statistics of its part in the buffers.
            norm.momentum = 1.0
        self._norms = norms
        # Whether the micro-batches of every process fit into the memory of each.
        self._memory_agreed = mesh.size == 1
        # Whether the first process requested a stop before the last step, and the one before: 0 or 1, on the device.
        self._stops: deque[Tensor] = deque(maxlen=2)

    def backward(
        self,
        loss: BatchLoss,
        images: Tensor,
        target: Tensor,
        reseed: Callable[[int], None],
        on_halved: Halved,
        stop: bool,
    ) -> Tensor:
        """Leave the gradient of the mean loss in the parameters; returns that loss, a detached scalar.

        `images` and `target` are the rows of this process's parts; `reseed` is called with the number of a part before
        it is computed; `stop`: whether this process requests a stop. PeerLostError before any weight has changed.
        """
        own = self._mesh.own_parts(self._parts)
        if not self._memory_agreed:
            self._agree_on_memory(loss, images.chunk(len(own))[0], target.chunk(len(own))[0], on_halved)
        if self._mesh.size > 1:
            on_halved = self._refuse_halving
        before = [torch.cat([n.running_mean, n.running_var]) for n in self._norms]
        counts = [n.num_batches_tracked.clone() for n in self._norms]
        rows = []
        try:
            for part, some, goal in zip(own, images.chunk(len(own)), target.chunk(len(own)), strict=True):
                value = self._micro.backward(loss, some, goal, partial(reseed, part), on_halved)
                found: list[Any] = [p for p in self._network.parameters() if p.grad is not None]
                flat = [p.grad.reshape(-1) for p in found]
                flat += [buffer for n in self._norms for buffer in (n.running_mean, n.running_var)]
                requested = value.new_full((1,), float(stop and part == 0) * self._parts)
                rows.append(torch.cat([*flat, value.reshape(1).to(flat[0].dtype), requested]) / self._parts)
                for parameter in found if part != own[-1] else ():
                    parameter.grad = None
            total = self._mesh.sum(rows, self._deterministic)
        except BaseException:
            self._network.zero_grad(set_to_none=True)
            self._set_statistics(before, counts)
            raise
        sizes = [p.numel() for p in found]
        *gradients, rest = total.split([*sizes, total.numel() - sum(sizes)])
        for parameter, gradient in zip(found, gradients, strict=True):
            parameter.grad.copy_(gradient.view_as(parameter))
        means = []
        for old, count, momentum in zip(before, counts, self._momenta, strict=True):
            mean, rest = rest[: len(old)], rest[len(old) :]
            means.append(old.lerp(mean, momentum if momentum is not None else 1.0 / (int(count) + 1)))
        self._set_statistics(means, [count + 1 for count in counts])
        self._stops.append(rest[1])
        return rest[0]

    def stop_decided(self) -> bool:
        """Whether all processes stop after this step: by what was requested before the last one, which every process
        has received without waiting."""
        return len(self._stops) == 2 and self._stops[0].item() > 0

    def _agree_on_memory(self, loss: BatchLoss, images: Tensor, target: Tensor, on_halved: Halved) -> None:
        """Compute a part and drop it: then micro-batches are as small in every process as they must be in one."""
        self._micro.backward(loss, images, target, on_halved=on_halved)
        self._micro.undo()
        self._micro.parts = max(self._mesh.gather(self._micro.parts))
        self._memory_agreed = True

    def _refuse_halving(self, sentence: str) -> None:
        raise LscError(f"{sentence}, but not in the middle of a step of several processes: resume the run")

    def _set_statistics(self, statistics: Sequence[Tensor], counts: Sequence[Tensor]) -> None:
        for norm, both, count in zip(self._norms, statistics, counts, strict=True):
            norm.running_mean.copy_(both[: len(both) // 2])
            norm.running_var.copy_(both[len(both) // 2 :])
            norm.num_batches_tracked.copy_(count)
