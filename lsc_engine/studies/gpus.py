"""The GPUs of `--gpus`: named by index or UUID, or `auto` for those that nobody uses."""

from __future__ import annotations

from lsc_engine.errors import UsageError
from lsc_engine.studies.runner import Slot

# A GPU with less than this in use and no process on it is free; drivers keep some memory for themselves.
IDLE_BYTES = 1 << 30


def gpu_slots(wanted: str) -> list[Slot]:
    """One slot per GPU of `auto` or a list such as "0,1,3", each pinned by UUID so that indices cannot drift."""
    cards = _cards()
    if wanted == "auto":
        chosen = [card for card in cards if card.free]
        if not chosen:
            raise UsageError(f"--gpus auto: none of the {len(cards)} GPUs is free; name them, as in --gpus 0,1")
    else:
        by_index = {str(card.index): card for card in cards} | {card.uuid: card for card in cards}
        missing = [part for part in wanted.split(",") if part.strip() not in by_index]
        if missing:
            there = ", ".join(str(card.index) for card in cards) or "none"
            raise UsageError(f"--gpus: no GPU {', '.join(missing)} here. There are: {there}")
        # A GPU named twice is one place all the same.
        chosen = list(dict.fromkeys(by_index[part.strip()] for part in wanted.split(",")))
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return [Slot(f"GPU {c.index}", "cuda", {**environment, "CUDA_VISIBLE_DEVICES": c.uuid}) for c in chosen]


class _Card:
    def __init__(self, index: int, uuid: str, free: bool) -> None:
        self.index, self.uuid, self.free = index, uuid, free


def _cards() -> list[_Card]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        raise UsageError(f"--gpus: no NVIDIA driver answers here ({error}); leave --gpus out to use the CPU") from error
    cards = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        try:
            used = pynvml.nvmlDeviceGetMemoryInfo(handle).used
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except pynvml.NVMLError:
            used, processes = IDLE_BYTES, []
        cards.append(
            _Card(index, uuid if isinstance(uuid, str) else uuid.decode(), used < IDLE_BYTES and not processes)
        )
    return cards
