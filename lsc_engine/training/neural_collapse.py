"""How far the classes have come apart in every layer, and neural collapse of the last one.

    accuracy of layer l = share of images x whose own class c has the nearest centre, argmin_c |h_l(x) - mu_{l,c}|

(nearest class centre, NCC). The centres mu are means over each class's evaluation images of the training set, in
evaluation mode, by true labels; validation images are judged by the same centres. h_l is what linear layer l puts out,
before batch norm and ReLU (arXiv:2412.00884); of a backbone without linear layers in a row, each transformer block's
class token (or mean token), then the embedding. The last layer is the class layer. The effective depth is the first
layer whose training error is at most 0.1, or the number of layers (arXiv:2202.09028).

Of the embedding z, with class means mu_c, their mean m, and the rows W of the class layer or the vectors of the
system (arXiv:2105.02375; K classes):

    NC1 = tr(S_W pinv(S_B)) / K,   S_W = E (z - mu)(z - mu)^T,   S_B = E_c (mu_c - m)(mu_c - m)^T
    NC2 = | H H^T / |H H^T|_F - (I - 1 1^T / K) / sqrt(K - 1) |_F,   H = (mu_c - m)_c
    NC3 = the same of W H^T,   NC4 = share of images whose label is not that of the nearest class mean
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lsc_engine.heads.base import Head
from lsc_engine.models import etf

# The error up to which a layer counts as separating the classes (arXiv:2202.09028; arXiv:2412.00884 takes 0.1).
DEPTH_ERROR = 0.1


def observed_layers(network: nn.Module) -> list[str]:
    """Names of the layers whose outputs are evaluated, first to last."""
    linear = etf.consecutive_linear_layers(network)
    if any(name.startswith("model.") for name in linear):
        return linear
    blocks = getattr(getattr(network.get_submodule("model"), "backbone", None), "blocks", ())
    return [*(f"model.backbone.blocks.{i}" for i in range(len(blocks))), "model", *linear]


class NeuralCollapse:
    """Observes the layers of `model` and `head` during evaluations, as a context: `fit` receives the batches that make
    the class means, an `evaluator` those that are compared with them. The outputs of one batch are held at a time."""

    def __init__(self, model: nn.Module, head: Head, classes: int, device: torch.device) -> None:
        self.model, self.head, self.classes, self.device = model, head, classes, device
        network = nn.ModuleDict({"model": model, "head": head})
        self._layers = [network.get_submodule(name) for name in observed_layers(network)]
        self._class_token = getattr(getattr(model, "backbone", None), "global_pool", "token") == "token"
        self._outputs: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._sums: list[Tensor] = []
        self._counts = torch.zeros(classes, dtype=torch.float64, device=device)

    def __enter__(self) -> NeuralCollapse:
        self._handles.append(self.model.register_forward_pre_hook(lambda *_: self._outputs.clear()))
        for number, layer in enumerate(self._layers):
            self._handles.append(layer.register_forward_hook(partial(self._store, number)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._outputs.clear()

    def _store(self, number: int, *hooked: Any) -> None:
        # A class layer is called twice, for the loss and for the label.
        self._outputs.setdefault(number, hooked[-1])

    def features(self, z: Tensor) -> list[Tensor]:
        """The outputs of the layers for the last batch, and the embedding: [B, d] float32 each."""

        def flat(output: Tensor) -> Tensor:
            if output.dim() == 3:
                output = output[:, 0] if self._class_token else output.mean(1)
            return output.flatten(2).mean(2).float() if output.dim() == 4 else output.float()

        return [*(flat(self._outputs[i]) for i in range(len(self._layers))), self.head.project(z).float()]

    def fit(self, z: Tensor, labels: Tensor, predicted: Tensor) -> None:
        """Add a batch of training images to the class means."""
        features = self.features(z)
        if not self._sums:
            self._sums = [
                torch.zeros(self.classes, f.shape[1], dtype=torch.float64, device=self.device) for f in features
            ]
        for sums, feature in zip(self._sums, features, strict=True):
            sums.index_add_(0, labels, feature.double())
        self._counts += torch.bincount(labels, minlength=self.classes)

    def evaluator(self) -> CollapseEvaluator:
        """For images to be compared with the class means as they are now."""
        return CollapseEvaluator(self, self._sums, self._counts)


class CollapseEvaluator:
    """Counts, batch by batch (`update`), images whose nearest class mean is that of their own class."""

    def __init__(self, collapse: NeuralCollapse, sums: list[Tensor], counts: Tensor) -> None:
        self._collapse = collapse
        self.present = counts > 0
        means = [s / counts.clamp(min=1).unsqueeze(1) for s in sums]
        self._middles = [m[self.present].mean(0) for m in means]
        # From the middle of the centres, so that squares do not cancel.
        self._centres = [(m - middle).float() for m, middle in zip(means, self._middles, strict=True)]
        self._between = (means[-1] - self._middles[-1])[self.present]
        _, self._spread, axes = torch.linalg.svd(self._between, full_matrices=False)
        rank = int((self._spread > 1e-9 * self._spread[0]).sum()) if len(self._spread) else 0
        self._spread, self._axes = self._spread[:rank], axes[:rank].float()
        self._right = torch.zeros(len(means), dtype=torch.float64, device=counts.device)
        self._within = torch.zeros(rank, dtype=torch.float64, device=counts.device)
        self._other = torch.zeros((), dtype=torch.float64, device=counts.device)
        self._images = 0

    def update(self, z: Tensor, labels: Tensor, predicted: Tensor) -> None:
        """Add a batch: embeddings [B, n], labels [B], predicted labels [B]."""
        nearest = labels
        for number, feature in enumerate(self._collapse.features(z)):
            feature = feature - self._middles[number].float()
            centres = self._centres[number]
            squares = centres.square().sum(1).masked_fill(~self.present, torch.inf)
            nearest = (squares - 2 * feature @ centres.T).argmin(1)
            self._right[number] += (nearest == labels).sum()
        within = (feature - centres[labels]) @ self._axes.T
        self._within += within.double().square().sum(0)
        self._other += (nearest != predicted).sum()
        self._images += len(labels)

    def metrics(self, split: str) -> dict[str, float]:
        """Nearest-class-centre accuracy of every layer, first to last: `train/ncc_1`, …; for the training images also
        the effective depth and NC1 to NC4."""
        accuracies = [float(share) for share in (self._right[:-1] / self._images).tolist()]
        values = {f"{split}/ncc_{number}": share for number, share in enumerate(accuracies, 1)}
        if split != "train":
            return values
        separated = (number for number, share in enumerate(accuracies, 1) if 1 - share <= DEPTH_ERROR)
        return values | {"train/effective_depth": float(next(separated, len(accuracies)))} | self.neural_collapse()

    def neural_collapse(self) -> dict[str, float]:
        """NC1 to NC4 without those that are not finite, as with equal class means."""
        classes = len(self._between)
        if not len(self._spread) or classes < 2:
            return {}
        gram = self._between @ self._between.T
        values = {
            "train/nc1": (self._within / self._images / self._spread.square()).sum().item(),
            "train/nc2": _from_simplex(gram),
            "train/nc4": (self._other / self._images).item(),
        }
        centres = self._collapse.head.centres(self.present.nonzero().squeeze(1))
        if centres is not None and centres.shape[1] == self._between.shape[1]:
            values["train/nc3"] = _from_simplex(centres.detach().double() @ self._between.T)
        return {name: value for name, value in sorted(values.items()) if math.isfinite(value)}


def _from_simplex(product: Tensor) -> float:
    """The distance of [K, K] float64, scaled to Frobenius norm 1, from that of a simplex."""
    classes = len(product)
    simplex = torch.full_like(product, -1 / classes).fill_diagonal_(1 - 1 / classes) / math.sqrt(classes - 1)
    return torch.linalg.matrix_norm(product / torch.linalg.matrix_norm(product) - simplex).item()
