"""Linear layers fixed to a simplex equiangular tight frame (arXiv:2412.00884), and putting them into a network.

    W = sqrt(K / (K - 1)) (I_K - 1 1^T / K) P^T

P [inputs, K] has orthonormal columns: the first K coordinates (canonical, the paper's), or random ones. The K = outputs
rows have norm 1, all cosines between them are -1 / (K - 1), their rank is K - 1; that needs inputs >= K - 1, and at
inputs = K - 1 the rows are written in the Helmert basis of the sum-zero space. With fewer inputs no such rows exist:
the frame then stands in the K = inputs columns, scaled so that the rows have norm 1 in the mean square. So the
canonical layer is scaled centring, of the first coordinates where it narrows and padded with zeros where it widens.

The weight is not trained and not stored: a checkpoint holds version, frame, seed and sizes, int64. The bias is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsc_engine.config.fixed import fixed_layers
from lsc_engine.errors import UsageError

if TYPE_CHECKING:
    from lsc_engine.config.schema import Model

VERSION = 1
FRAMES = ("canonical", "random")
SPEC = "spec"


class FixedLinear(nn.Module):
    """[..., inputs] -> [..., outputs]: W x + bias with a fixed W; `bias` is taken over as it is, None for none.

    UsageError where there is no simplex: a single output, or a single input below it.
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
        # Where the frame stands in the columns, they are longer, for rows of norm 1 in the mean square.
        stretch = 1.0 if fits_rows else math.sqrt(outputs / inputs)
        self.scale = stretch * math.sqrt(self.corners / (self.corners - 1))
        self.register_buffer(SPEC, torch.tensor([VERSION, FRAMES.index(frame), seed, inputs, outputs]))
        self.register_buffer("frame", None, persistent=False)
        self.register_parameter("bias", bias)
        self._make(seed)

    def _make(self, seed: int) -> None:
        """Compute the dense W where the forward pass needs one."""
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
        """The dense W [outputs, inputs], for whoever looks at it; the canonical layer works without it."""
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
    """Frame, seed, inputs and outputs. UsageError where another version wrote them."""
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


# ------------------------------------------------------------------------------------------------- In a whole network
def in_a_row(modules: Mapping[str, nn.Module]) -> list[str]:
    """Names of the linear layers in a row up to the output, first to last: of the backbone, then of the head."""
    return [f"{name}.{layer}" for name, module in modules.items() for layer in getattr(module, "in_a_row", ())]


def feed_forward(modules: Mapping[str, nn.Module]) -> list[str]:
    """Names of the two layers of every transformer block's feed-forward part, as timm calls them."""
    return [
        f"{name}.{layer}"
        for name, module in modules.items()
        for layer, found in module.named_modules()
        if isinstance(found, nn.Linear | FixedLinear) and layer.split(".")[-2:] in (["mlp", "fc1"], ["mlp", "fc2"])
    ]


def named_layers(modules: Mapping[str, nn.Module], model: Model) -> list[str]:
    """Names of the layers that model.etf_layers fixes from the start on. UsageError where there are none such."""
    layers = model.etf_layers
    if layers == "feed-forward":
        found = feed_forward(modules)
        if not found:
            raise UsageError(f'model.etf_layers: {model.name} has no feed-forward layers fc1 and fc2; take "none"')
        return found
    row = in_a_row(modules)
    wanted = fixed_layers(layers, len(row))
    if wanted and (wanted.start < 0 or wanted.stop > len(row)):
        raise UsageError(f"model.etf_layers: {layers} of {len(row)} linear layers in a row; take at most {len(row)}")
    if wanted and len(row) - 1 in wanted:
        check_output(modules, row[-1])
    return [row[i] for i in wanted]


def check_output(modules: Mapping[str, nn.Module], name: str) -> None:
    """UsageError where the output has more classes than a simplex in its input space has corners."""
    layer = find(modules, name)
    assert isinstance(layer, nn.Linear | FixedLinear)
    inputs, outputs = layer.in_features, layer.out_features
    if inputs < outputs - 1:
        needed = f"a simplex of {outputs} classes needs {outputs - 1} inputs, not {inputs}"
        raise UsageError(f"model.etf_layers: the class layer cannot be fixed: {needed}")


def fix(modules: Mapping[str, nn.Module], names: Sequence[str], *, frame: str, seeds: Sequence[int]) -> None:
    """Put fixed layers in the place of the linear ones called `names`; biases stay. `seeds`: one for each."""
    for name, seed in zip(names, seeds, strict=True):
        old = find(modules, name)
        if isinstance(old, nn.Linear):
            new = FixedLinear(old.in_features, old.out_features, frame=frame, seed=seed, bias=old.bias)
            _put(modules, name, new.to(old.weight.device))


def adopt(modules: Mapping[str, nn.Module], tensors: Mapping[str, Any]) -> list[str]:
    """Fix the layers that are fixed in a checkpoint's `tensors` and not yet here; their names."""
    found = []
    for name in [name.removesuffix(f".{SPEC}") for name in tensors if name.endswith(f".{SPEC}")]:
        if isinstance(find(modules, name), nn.Linear):
            frame, seed, *_ = _read(tensors[f"{name}.{SPEC}"])
            fix(modules, [name], frame=frame, seeds=[seed])
            found.append(name)
    return found


def fixed_names(modules: Mapping[str, nn.Module]) -> list[str]:
    """Names of the layers that are fixed now."""
    return [f"{name}.{layer}" for name, layer, _ in _fixed(modules)]


def fixed_weights(modules: Mapping[str, nn.Module]) -> int:
    """How many weights are not trained because their layer is fixed."""
    return sum(found.in_features * found.out_features for _, _, found in _fixed(modules))


def _fixed(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, FixedLinear]]:
    for name, module in modules.items():
        for layer, found in module.named_modules():
            if isinstance(found, FixedLinear):
                yield name, layer, found


def find(modules: Mapping[str, nn.Module], name: str) -> nn.Module | None:
    """The layer of that name, such as "model.blocks.0.0", or None."""
    top, _, rest = name.partition(".")
    try:
        return modules[top].get_submodule(rest)
    except (KeyError, AttributeError):
        return None


def _put(modules: Mapping[str, nn.Module], name: str, layer: nn.Module) -> None:
    top, _, rest = name.partition(".")
    place, _, last = rest.rpartition(".")
    setattr(modules[top].get_submodule(place), last, layer)
