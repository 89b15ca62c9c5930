"""What the settings of a variant are chosen for by [tune]: that which the claims judge of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lsc_engine.config.preset import Claim
from lsc_engine.config.schema import acts

if TYPE_CHECKING:
    from lsc_engine.config.preset import Preset

CLAIMS = "claims"
# Behind the name of a metric: its lowest value on the way instead of the last.
LOWEST = "/lowest"
# How often a grid may grow beyond each of its edges.
MOST_GROWTH = 2
# The largest factor of one step of it.
LARGEST_STEP = 10.0


@dataclass(frozen=True)
class Purpose:
    """One reason to prefer a try: its `levels` (metric, value) are reached soonest, hardest first; or, without levels,
    the best final value of `metric`."""

    metric: str
    levels: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        if not self.levels:
            return f"the final {self.metric}"
        return "the time to " + " and ".join(f"{metric} {level:g}" for metric, level in self.levels)


def lower_is_better(metric: str) -> bool:
    """Whether a metric is a loss, or the share of an error."""
    name = metric.removesuffix(LOWEST).rpartition("/")[2]
    return "loss" in name or name.startswith(("ece", "fpr95"))


def implied_claims(variants: Iterable[str], baseline: str | None) -> list[Claim]:
    """What a preset without claims is judged by: that every other variant is faster than the baseline."""
    return [
        Claim.model_validate({"text": f"{name} is faster than {baseline}", "variant": name, "is": "faster"})
        for name in variants
        if name != baseline
    ]


def level_purpose(
    levels: Mapping[str, Sequence[float]], kind: str | None = None, metric: str | None = None
) -> Purpose | None:
    """The purpose of reaching the levels of one metric, or of one kind of metric (`accuracy` or `loss`)."""
    chosen = [
        (name, level)
        for name, values in levels.items()
        for level in sorted(values, reverse=not lower_is_better(name))
        if (name == metric if metric is not None else lower_is_better(name) == (kind == "loss"))
    ]
    return Purpose(chosen[0][0], tuple(chosen)) if chosen else None


def claim_purposes(claim: Claim, levels: Mapping[str, Sequence[float]], *, losses: bool) -> list[Purpose]:
    """What a claim is judged by. `losses`: whether the losses of its two variants may be compared."""
    if (claim.metric or "").startswith("speed/"):
        return []
    if claim.result != "faster":
        names = [claim.metric] if claim.metric else ["train/accuracy"]
        if claim.metric is None and claim.result not in ("works", "fails") and losses:
            names.append("train/loss")
        return [Purpose(name) for name in names]
    if claim.metric is not None:
        found = [level_purpose(levels, metric=claim.metric)]
    else:
        found = [level_purpose(levels, kind) for kind in ("accuracy", "loss") if kind == "accuracy" or losses]
    return [purpose for purpose in found if purpose is not None]


def purposes(
    claims: Iterable[Claim],
    levels: Mapping[str, Sequence[float]],
    baseline: str | None,
    by: str,
    groups: Mapping[str, Any],
) -> dict[str, tuple[Purpose, ...]]:
    """Variant -> what its try is chosen for. `groups`: variant -> what must be equal where losses are compared;
    `by`: a metric, or "claims"."""
    if by != CLAIMS:
        return dict.fromkeys(groups, (Purpose(by),))
    found: dict[str, dict[Purpose, None]] = {name: {} for name in groups}
    for claim in claims:
        pair = [claim.variant]
        if claim.result not in ("works", "fails"):
            pair += [name for name in (claim.against or baseline,) if name is not None]
        pair = [name for name in pair if name in groups]
        losses = len({groups[name] for name in pair}) == 1
        for purpose in claim_purposes(claim, levels, losses=losses):
            for name in pair:
                found[name][purpose] = None
    # Levels come before final values: the first purpose decides the run that has the variant's own name.
    usual = [p for p in (level_purpose(levels, "accuracy"), level_purpose(levels, "loss")) if p is not None]
    return {
        name: tuple(sorted(own, key=lambda purpose: not purpose.levels) or usual[:1] or [Purpose("train/accuracy")])
        for name, own in found.items()
    }


def next_value(values: Sequence[Any], grid: Sequence[Any], best: Any) -> float | None:
    """The value that a grid grows to where its best one lies at an edge: a step of the grid's own mean factor, at most
    LARGEST_STEP, rounded to one digit; whole where all of the grid are. None where the best one does not lie at an
    edge, or `grid` has grown MOST_GROWTH times that way.

    `values` are all that were tried so far, `grid` those of the preset.
    """
    numbers = [v for v in grid if isinstance(v, int | float) and not isinstance(v, bool) and v > 0]
    if len(numbers) != len(grid) or len(numbers) < 2 or best not in (min(values), max(values)):
        return None
    low, high = min(numbers), max(numbers)
    factor = min((high / low) ** (1 / (len(numbers) - 1)), LARGEST_STEP)
    up = best == max(values)
    grown = sum(value > high if up else value < low for value in values)
    if grown >= MOST_GROWTH or factor <= 1:
        return None
    value = high * factor ** (grown + 1) if up else low / factor ** (grown + 1)
    if not all(isinstance(v, int) for v in numbers):
        return float(f"{value:.0e}")
    whole = round(value)
    return None if whole in values or whole < 1 else whole


def at_edge(values: Sequence[Any], best: Any) -> bool:
    """Whether the best of at least two numbers tried is the least or the largest of them."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(set(numbers)) > 1 and len(numbers) == len(values) and best in (min(numbers), max(numbers))


def tune_purposes(preset: Preset) -> dict[str, tuple[Purpose, ...]]:
    """Variant -> what the settings of its tries are chosen for."""
    groups = {}
    for variant in preset.variants:
        # What must be equal where losses are compared (loss_group of a run's record).
        flat = variant.settings.target.model_dump()
        value_of = {f"target.{key}": value for key, value in flat.items()}.get
        acting = [key for key in flat if key not in ("system", "order", "bottleneck", "teacher")]
        groups[variant.name] = tuple((key, flat[key]) for key in acting if acts(f"target.{key}", value_of))
    baseline = preset.compare.baseline or next(iter(groups), None)
    claims = preset.reporting.claims or implied_claims(groups, baseline)
    by = preset.tune.by if preset.tune is not None else CLAIMS
    return purposes(claims, preset.compare.levels, baseline, by, groups)
