"""Classical distillation (arXiv:1503.02531; arXiv:2510.04090, Fig. 11a): a teacher's logits beside the labels.

    loss = (1 - w) CE(labels, s) + w T^2 KL( softmax(t / T) | softmax(s / T) ),    s, t: logits of student and teacher

The method of Fig. 11b needs no teacher in memory: the teacher's class means are the centres of an LSC student
(target.system = "embeddings:RUN").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsc_engine.heads.cross_entropy import CrossEntropyHead


@dataclass(frozen=True)
class Teacher:
    """A trained backbone with its class layer, frozen; the name of their checkpoint and its sha256."""

    model: nn.Module
    head: CrossEntropyHead
    name: str
    sha256: str

    def __post_init__(self) -> None:
        for module in (self.model, self.head):
            module.eval().requires_grad_(False)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """[B, C, S, S] images as the student sees them -> [B, classes]."""
        return self.head.logits(self.model(images))


class DistillationHead(CrossEntropyHead):
    """The student's class layer; `weight` is w, the share of the teacher's loss."""

    def __init__(
        self,
        dim: int,
        classes: int,
        bottleneck: int | None,
        seed: int,
        *,
        teacher: Teacher,
        weight: float,
        temperature: float,
    ) -> None:
        super().__init__(dim, classes, bottleneck, seed)
        # A dataclass, so no submodule of this head: it is neither trained nor kept in checkpoints.
        self.teacher, self.weight, self.temperature = teacher, weight, temperature

    def batch_loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        logits, teacher_logits = self.logits(model(images)), self.teacher.logits(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.distillation_loss(logits.float(), teacher_logits.float(), target)

    def distillation_loss(self, logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """The loss of student and teacher logits [B, classes] and labels [B], a scalar."""
        student, teacher = (F.log_softmax(each / self.temperature, dim=1) for each in (logits, teacher_logits))
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return (1 - self.weight) * F.cross_entropy(logits, target) + self.weight * self.temperature**2 * divergence

    def record(self) -> dict[str, Any]:
        return super().record() | {"teacher": self.teacher.name, "teacher_sha256": self.teacher.sha256}
