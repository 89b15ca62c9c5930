"""The sum of exp<x, v> over all vectors of a system, against the vectors listed one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import system
from tests.vectors import brute

LISTED = [(name, n) for name, n in brute.SMALL if name != "V12"]


def at_scale(rows: int, n: int, scale: float) -> Tensor:
    z = torch.randn(rows, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return scale * functional.normalize(z)


@pytest.mark.parametrize(("name", "n"), LISTED)
@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_it_is_the_sum_over_all_vectors_and_so_is_its_gradient(name: str, n: int, scale: float) -> None:
    made = system(name, n)
    x = at_scale(40, n, scale).requires_grad_()
    listed = torch.from_numpy(brute.unit(brute.native(name, n)))
    scores = made.lift(x) @ listed.T
    want = functional.cross_entropy(scores, torch.zeros(len(x), dtype=torch.long), reduction="none") + scores[:, 0]
    found = made.log_partition(x)
    # The constants of Helmert's isometry and of vectors that are summed one by one are float32.
    bound = 4e-7 * scale if name == "A-helmert" or name[0] == "W" else 1e-9
    torch.testing.assert_close(found, want, atol=bound, rtol=0)
    (wanted,) = torch.autograd.grad(want.sum(), x, retain_graph=True)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient, wanted, atol=max(bound, 1e-9) * scale, rtol=0)


@pytest.mark.parametrize(("name", "n", "classes"), [("simplex", 9, 10), ("simplex", 12, 5), ("planar", 2, 30)])
def test_systems_of_a_given_number_of_classes_are_summed(name: str, n: int, classes: int) -> None:
    made = system(name, n, classes=classes)
    x = at_scale(20, n, 8.0)
    want = (x @ made.vectors(torch.arange(made.count)).double().T).logsumexp(1)
    torch.testing.assert_close(made.log_partition(x), want, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("name", "n", "classes"), [
    ("hadamard", 2, None), ("hadamard", 16, None), ("kerdock", 4, None), ("kerdock", 16, None), ("bch", 16, 2**11),
    ("bch", 32, 2**11), ("rademacher", 1, None), ("rademacher", 10, None), ("rademacher", 10, 5),
])  # fmt: skip
@pytest.mark.parametrize("at_once", [2**18, 8])
def test_codes_are_summed_by_their_transforms(
    monkeypatch: pytest.MonkeyPatch, name: str, n: int, classes: int | None, at_once: int
) -> None:
    monkeypatch.setattr("lsc_engine.vectors.families.codes._AT_ONCE", at_once)
    made = system(name, n, classes=classes)
    x = at_scale(20, n, 16.0).requires_grad_()
    signs = made.vectors(torch.arange(made.count)).double()
    want = (x @ (signs.sign() / signs.count_nonzero(1).double().sqrt().unsqueeze(1)).T).logsumexp(1)
    found = made.log_partition(x)
    torch.testing.assert_close(found, want, atol=1e-9, rtol=0)
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), x)[0] for each in (found, want)), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["V21", "V22", "V32", "V33", "V21pm", "A", "Ap", "A-mid", "A-interp", "A-helmert"])
def test_float32_stays_finite_and_exact_where_single_factors_pass_its_range(name: str) -> None:
    """exp(64 / sqrt 2) of two factors is beyond float32, also for embeddings on an axis."""
    made = system(name, 40)
    z = torch.cat([at_scale(6, 40, 64.0), 64 * torch.eye(40, dtype=torch.float64)[:3], torch.zeros(1, 40).double()])
    x = z.float().requires_grad_()
    found = made.log_partition(x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert found.dtype == torch.float32
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(found.double(), made.log_partition(z), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize(("name", "n"), [("V22", 384), ("V33", 300), ("A-interp", 384)])
def test_counts_beyond_an_index_are_summed(name: str, n: int) -> None:
    made = system(name, n)
    zero = made.log_partition(torch.zeros(1, n, dtype=torch.float64))
    torch.testing.assert_close(zero.exp().item(), float(made.count), atol=0, rtol=1e-9)


def test_a_system_without_a_formula_is_summed_up_to_a_limit_and_refused_beyond() -> None:
    assert system("W4", 5).partition_fault is None
    with pytest.raises(UsageError, match="vectors of W4 at n = 100 has no formula"):
        system("W4", 100).log_partition(torch.zeros(1, 100))
    for name in ("gaussian", "rademacher"):
        with pytest.raises(UsageError, match="has no formula"):
            system(name, 70, classes=100).log_partition(torch.zeros(1, 70))
