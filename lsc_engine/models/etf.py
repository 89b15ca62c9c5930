"""Linear layers fixed to a simplex equiangular tight frame (arXiv:2412.00884), and putting them into a network.

    W = sqrt(K / (K - 1)) (I_K - 1 1^T / K) P^T

P [inputs, K] has orthonormal columns: the first K coordinates (canonical, the paper's), or random ones. The K = outputs
rows have norm 1, all cosines between them are -1 / (K - 1), their rank is K - 1; that needs inputs >= K - 1, and at
inputs = K - 1 the rows are written in the Helmert basis of the sum-zero space. With fewer inputs no such rows exist:
the frame is then in the K = inputs columns, scaled so that the rows have norm 1 in the mean square. So the
canonical layer is scaled centring, of the first coordinates where it narrows and padded with zeros where it widens.

The weight is not trained and not stored: a checkpoint holds version, frame, seed and sizes, int64. The bias is trained.

A whole network is an nn.ModuleDict of "model" and "head"; a layer's name is its path there, such as "model.blocks.0.0".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsc_engine.common.errors import UsageError
from lsc_engine.config.defaults import fixed_layers

if TYPE_CHECKING:
    from lsc_engine.config.schema import Model

VERSION = 1
FRAMES = ("canonical", "random")
SPEC = "spec"


class FixedLinear(nn.Module):
    """[..., inputs] -> [..., outputs]: W x + bias with a fixed W.

    UsageError if there is no simplex: a single output, or a single input below it.
    """

    spec: Tensor
    frame: Tensor | None
    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, *, frame: str, seed: int, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kind = inputs, outputs, frame
        fits_rows = inputs >= outputs - 1
        self.corners = outputs if fits_rows else inputs
        if self.corners < 2:
            raise UsageError(f"a layer of {inputs} inputs and {outputs} outputs has no simplex: two corners are needed")
        # A frame in the columns has longer columns, for rows of norm 1 in the mean square.
        stretch = 1.0 if fits_rows else math.sqrt(outputs / inputs)
        self.scale = stretch * math.sqrt(self.corners / (self.corners - 1))
        self.register_buffer(SPEC, torch.tensor([VERSION, FRAMES.index(frame), seed, inputs, outputs]))
        self.register_buffer("frame", None, persistent=False)
        self.register_parameter("bias", bias)
        self._make(seed)

    def _make(self, seed: int) -> None:
        """Compute the dense W if the forward pass needs it."""
        device = self.spec.device if self.bias is None else self.bias.device
        if self.kind == "canonical" and self.in_features != self.out_features - 1:
            self.frame = None
        elif device.type == "meta":
            self.frame = torch.empty(self.out_features, self.in_features, device=device)
        else:
            self.frame = self._dense(seed).to(device)

    def _dense(self, seed: int) -> Tensor:
        """W [outputs, inputs] float32 from the corners in their own space, and the axes of that space."""
        coordinates = self.in_features if self.corners == self.out_features else self.out_features
        rows = self.scale * _helmert_basis(self.corners)
        if self.kind == "random":
            rows = rows @ _random_axes(coordinates, self.corners - 1, seed).T
        return (rows if self.corners == self.out_features else rows.T).float().contiguous()

    @property
    def weight(self) -> Tensor:
        """The dense W [outputs, inputs]; the forward pass of the canonical layer works without it."""
        if self.frame is not None:
            return self.frame
        k = self.corners
        square = self.scale * (torch.eye(k, dtype=torch.float64, device=self.spec.device) - 1 / k)
        return F.pad(square, (0, self.in_features - k, 0, self.out_features - k)).float()

    def forward(self, x: Tensor) -> Tensor:
        if self.frame is not None:
            return F.linear(x, self.frame, self.bias)
        kept = x[..., : self.corners]
        y = self.scale * (kept - kept.mean(-1, keepdim=True))
        if self.out_features > self.corners:
            y = F.pad(y, (0, self.out_features - self.corners))
        return y if self.bias is None else y + self.bias

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **options)
        self.kind, seed, *sizes = _read(state_dict.get(f"{prefix}{SPEC}", self.spec))
        if sizes != [self.in_features, self.out_features]:
            raise UsageError(f"{prefix[:-1]}: fixed at {sizes}, here it is {[self.in_features, self.out_features]}")
        self._make(seed)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, {self.kind}, {self.corners} corners"


def _read(spec: Tensor) -> tuple[str, int, int, int]:
    """Frame, seed, inputs and outputs. UsageError if another version wrote them."""
    version, kind, seed, inputs, outputs = spec.tolist()
    if version != VERSION or kind not in range(len(FRAMES)):
        raise UsageError(f"a layer fixed by version {version} of the frames; this program knows {VERSION}")
    return FRAMES[kind], seed, inputs, outputs


def dense(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint with the weights of fixed layers [outputs, inputs] in the place of their specs."""
    found = dict(tensors)
    for name in [name for name in tensors if name.endswith(f".{SPEC}")]:
        frame, seed, inputs, outputs = _read(found.pop(name))
        layer = FixedLinear(inputs, outputs, frame=frame, seed=seed, bias=None)
        found[f"{name.removesuffix(SPEC)}weight"] = layer.weight
    return found


def _helmert_basis(corners: int) -> Tensor:
    """[K, K - 1] float64: orthonormal columns of sum 0, the corners of a simplex as rows up to their length."""
    basis = torch.zeros(corners, corners - 1, dtype=torch.float64, device="cpu")
    for j in range(1, corners):
        basis[:j, j - 1] = 1 / math.sqrt(j * (j + 1))
        basis[j, j - 1] = -j / math.sqrt(j * (j + 1))
    return basis


def _random_axes(coordinates: int, axes: int, seed: int) -> Tensor:
    """[coordinates, axes] float64 with orthonormal columns, uniform over all such: QR of a Gaussian matrix."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    drawn = torch.randn(coordinates, axes, dtype=torch.float64, generator=generator, device="cpu")
    q, r = torch.linalg.qr(drawn)
    return q * r.diagonal().sign()


def consecutive_linear_layers(network: nn.Module) -> list[str]:
    """Names of the consecutive linear layers up to the output, first to last: of the backbone, then of the head."""
    return [
        f"{part}.{layer}"
        for part, module in network.named_children()
        for layer in getattr(module, "consecutive_linear_layers", ())
    ]


def layers_to_fix(network: nn.Module, model: Model) -> list[str]:
    """Names of the layers that model.etf_layers fixes from the start on. UsageError if there are none such."""
    layers = model.etf_layers
    if layers == "feed-forward":
        # The two layers of the feed-forward part of every transformer block, as timm calls them.
        found = [
            name
            for name, layer in network.named_modules()
            if isinstance(layer, nn.Linear | FixedLinear) and name.split(".")[-2:] in (["mlp", "fc1"], ["mlp", "fc2"])
        ]
        if not found:
            raise UsageError(f'model.etf_layers: {model.name} has no feed-forward layers fc1 and fc2; take "none"')
        return found
    names = consecutive_linear_layers(network)
    wanted = fixed_layers(layers, len(names))
    if wanted and (wanted.start < 0 or wanted.stop > len(names)):
        raise UsageError(
            f"model.etf_layers: {layers} of {len(names)} linear layers in a row; take at most {len(names)}"
        )
    if wanted and len(names) - 1 in wanted:
        output = network.get_submodule(names[-1])
        assert isinstance(output, nn.Linear | FixedLinear)
        if output.in_features < output.out_features - 1:
            needed = f"a simplex of {output.out_features} classes needs {output.out_features - 1} inputs"
            raise UsageError(f"model.etf_layers: the class layer cannot be fixed: {needed}, not {output.in_features}")
    return [names[i] for i in wanted]


def fix_layers(network: nn.Module, seeds: Mapping[str, int], frame: str) -> None:
    """Replace the linear layers named in `seeds` by fixed ones drawn from those seeds; biases stay."""
    for name, seed in seeds.items():
        old = network.get_submodule(name)
        if isinstance(old, nn.Linear):
            new = FixedLinear(old.in_features, old.out_features, frame=frame, seed=seed, bias=old.bias)
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, new.to(old.weight.device))


def fix_layers_of_checkpoint(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fix the layers that are fixed in a checkpoint's `tensors` and not yet in `network`."""
    linear = {name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    for key, spec in tensors.items():
        name, _, last = key.rpartition(".")
        if last == SPEC and name in linear:
            frame, seed, *_ = _read(spec)
            fix_layers(network, {name: seed}, frame)


def fixed_layer_names(network: nn.Module) -> list[str]:
    """Names of the layers that are fixed now."""
    return [name for name, layer in network.named_modules() if isinstance(layer, FixedLinear)]


def fixed_weight_count(network: nn.Module) -> int:
    """The number of weights that are not trained because their layer is fixed."""
    return sum(m.in_features * m.out_features for m in network.modules() if isinstance(m, FixedLinear))
