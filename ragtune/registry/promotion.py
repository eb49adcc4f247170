"""When a model becomes `champion`: only if it beats today's champion, on the same questions, by more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragtune.errors import RegistryError
from ragtune.evaluation.answers import exact_match
from ragtune.evaluation.bootstrap import Interval, paired_bootstrap
from ragtune.questions.normalization import normalize_question

FEWEST_COMMON_QUESTIONS = 100  # below this a comparison on part of the questions says too little

Predictions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Decision:
    """Whether to move `champion`, and why.

    Attributes:
        promote: whether the candidate becomes champion.
        reason: in words, for people; one sentence.
        questions: how many questions the comparison rests on.
        interval: EM of candidate − EM of champion, or − EM of its own base where there is no champion; None where
            nothing could be compared.
    """

    promote: bool
    reason: str
    questions: int
    interval: Interval | None


def decide_promotion(
    candidate: Predictions,
    champion: Predictions | None,
    champion_name: str = "the champion",
    *,
    force: bool = False,
    fewest_common: int = FEWEST_COMMON_QUESTIONS,
    seed: int = 0,
) -> Decision:
    """Decide from what both models answered.

    The champion's stored answers are scored against the references of today, so references that have been mended count
    for both. Where the two were asked different questions, the questions common to both decide, if there are at least
    `fewest_common`; otherwise the champion stays.

    Args:
        candidate: lines of the new model's predictions.jsonl.
        champion: those of today's champion, None if there is no champion.
        champion_name: what the reason calls it.
        force: promote whatever the comparison says; the reason says that too.
        fewest_common: see above.
        seed: of the bootstrap.

    Raises:
        RegistryError: the candidate has no predictions.
    """
    if not candidate:
        raise RegistryError("a model without predictions cannot be registered: predictions.jsonl is empty")
    decision = (
        _first(candidate, seed)
        if champion is None
        else _challenge(candidate, champion, champion_name, fewest_common, seed)
    )
    if force and not decision.promote:
        return Decision(True, f"forced, although {decision.reason}", decision.questions, decision.interval)
    return decision


def _first(candidate: Predictions, seed: int) -> Decision:
    before, after = ([row[name] for row in candidate] for name in ("em_before", "em_after"))
    interval = paired_bootstrap(before, after, seed=seed)
    reason = f"there is no champion yet; against its own base model {_in_words(interval, len(candidate))}"
    return Decision(True, reason, len(candidate), interval)


def _challenge(candidate: Predictions, champion: Predictions, name: str, fewest: int, seed: int) -> Decision:
    answered = {_key(row): row["prediction_after"] for row in champion}
    common = [row for row in candidate if _key(row) in answered]
    if len(common) < fewest and not len(common) == len(candidate) == len(answered):
        reason = (
            f"only {len(common):,} of its {len(candidate):,} questions were also put to {name}, fewer than {fewest:,}: "
            "not comparable; evaluate on the questions of the champion, or force it"
        )
        return Decision(False, reason, len(common), None)
    theirs = [exact_match(answered[_key(row)], row["answers"]) for row in common]
    interval = paired_bootstrap(theirs, [row["em_after"] for row in common], seed=seed)
    part = "" if len(common) == len(candidate) else f" (those of its {len(candidate):,} that both were asked)"
    return Decision(interval.low > 0, f"against {name} {_in_words(interval, len(common))}{part}", len(common), interval)


def _key(row: Mapping[str, Any]) -> str:
    return normalize_question(row["question"]) or str(row["question"])


def _in_words(interval: Interval, questions: int) -> str:
    side = "above zero" if interval.low > 0 else "below zero" if interval.high < 0 else "not above zero"
    return (
        f"EM differs by {100 * interval.difference:+.1f} points, 95 % interval {100 * interval.low:+.1f} to "
        f"{100 * interval.high:+.1f}, {side}, over {questions:,} questions"
    )
