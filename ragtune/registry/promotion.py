"""The rule by which a model becomes `champion`: it was better than today's champion on the same questions, or, where
there is none yet, better than its own base; by more than chance, on questions enough."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ragtune.errors import RegistryError
from ragtune.evaluation.comparison import Comparison, compare
from ragtune.settings.pipeline import PARAMETERS
from ragtune.settings.setting import check

AUTO, NEVER, FORCE = "auto", "never", "force"
MIN_QUESTIONS = 100
_AGAIN = "run the pipeline again, which evaluates it against today's champion, or promote it with promote=force"

Predictions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Decision:
    """The answer of the rule.

    Attributes:
        promote: whether the candidate becomes champion.
        reason: in words, for people; one sentence.
        baseline: there is no champion, and the candidate has not been shown to be better than its own base.
        stale: the champion is another than the evaluation knew; a new evaluation may say otherwise.
        comparison: what the decision rests on; None where nothing could be compared.
    """

    promote: bool
    reason: str
    baseline: bool = False
    stale: bool = False
    comparison: Comparison | None = None


def decide_promotion(
    predictions: Predictions,
    evaluated: str = "",
    today: str = "",
    problem: str = "",
    note: str = "",
    *,
    promote: str = AUTO,
    min_questions: int = MIN_QUESTIONS,
    metric: str = "em",
    seed: int = 0,
) -> Decision:
    """Decide from what candidate and champion answered to the same questions.

    A champion that could not be evaluated (its model or knowledge base is gone) is never replaced by the rule: nothing
    is known of the two, and a person should look. A candidate that was compared with another champion than today's is
    not promoted either, or of two that were judged side by side against one champion the worse could follow the better.

    Args:
        predictions: lines of predictions.jsonl, with `em_after`, and `em_champion` or `em_before`, and `group`.
        evaluated: version of the champion that they were evaluated against; "" if there was none.
        today: version of today's champion; "" if there is none.
        problem: why the champion could not be evaluated; "" if it was.
        note: what a reader of the reason must know of their comparison; "" for nothing.
        promote: `auto` goes by the rule, `never` leaves the champion, `force` promotes whatever the rule says.
        min_questions: fewest questions that a promotion by the rule may rest on; those of one group count once.
        metric: the score per question that decides, see `ragtune.evaluation.champion.deciding_metric`.
        seed: random seed of the bootstrap.

    Raises:
        ParameterError: `min_questions` is below 1.
        RegistryError: the candidate has no predictions, or they lack the metric's scores.
    """
    check_promotion(promote)
    check(PARAMETERS, {"min_test_questions": min_questions})
    if not predictions:
        raise RegistryError("a model without predictions cannot be registered: predictions.jsonl is empty")
    decision = _by_rule(predictions, evaluated, today, problem, min_questions, metric, seed)
    if note:
        decision = replace(decision, reason=f"{decision.reason}; {note}")
    if promote == NEVER:
        return replace(decision, promote=False, reason=f"promote=never; {decision.reason}")
    if promote == FORCE and not decision.promote:
        return Decision(True, f"forced, although {decision.reason}", comparison=decision.comparison)
    return decision


def check_promotion(promote: str) -> None:
    """Raises RegistryError for settings that `decide_promotion` does not know."""
    if promote not in (AUTO, NEVER, FORCE):
        raise RegistryError(f'promote="{promote}": must be {AUTO}, {NEVER} or {FORCE}')


def _by_rule(
    predictions: Predictions, evaluated: str, today: str, problem: str, min_questions: int, metric: str, seed: int
) -> Decision:
    if evaluated != today:
        then, now = (f"version {version}" if version else "none" for version in (evaluated, today))
        return Decision(
            False, f"the champion has changed since the evaluation (then {then}, now {now}); {_AGAIN}", stale=True
        )
    if problem:
        return Decision(
            False,
            f"the champion, version {today}, could not be evaluated ({problem}); fix that and run again, or promote "
            "with promote=force",
        )
    opponent = f"the champion, version {today}," if today else "its own base, as there is no champion,"
    comparison = _compared(predictions, "champion" if today else "before", metric, seed)
    enough = comparison.groups >= min_questions
    reason = f"against {opponent} {_in_words(comparison, metric)}"
    if not enough:
        counted = "questions" if comparison.questions < min_questions else "groups"
        reason += f": fewer {counted} than min_test_questions={min_questions:,}"
    promote = comparison.better and enough
    return Decision(promote, reason, baseline=not today and not promote, comparison=comparison)


def _compared(predictions: Predictions, opponent: str, metric: str, seed: int) -> Comparison:
    try:
        ours, theirs = (
            [math.nan if row[name] is None else row[name] for row in predictions]
            for name in (f"{metric}_after", f"{metric}_{opponent}")
        )
        groups = [row["group"] for row in predictions]
    except KeyError as error:
        raise RegistryError(
            f"predictions.jsonl has no {error}; was it written by this version's evaluation?"
        ) from error
    return compare(ours, theirs, seed, groups)


def _in_words(comparison: Comparison, metric: str) -> str:
    interval, name = comparison.interval, "EM" if metric == "em" else metric
    grouped = ""
    if comparison.groups < comparison.questions:
        grouped = f" in {comparison.groups:,} groups that share a document or gold passage"
    side = "above zero" if interval.low > 0 else "below zero" if interval.high < 0 else "not above zero"
    return (
        f"{name} differs by {100 * interval.difference:+.1f} points, 95 % interval {100 * interval.low:+.1f} to "
        f"{100 * interval.high:+.1f}, {side}, {comparison.wins:,} won and {comparison.losses:,} lost (p "
        f"{comparison.p_shown}), over {comparison.questions:,} questions{grouped}"
    )
