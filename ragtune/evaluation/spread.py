"""Questions answered on all devices of a machine at once."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ragtune.models.devices import halved_on_gpu
from ragtune.models.rag import RagModel

Answers = list[str]


def answer_on(
    devices: Sequence[str], model: RagModel, answer: Callable[[RagModel, range], Answers], questions: int
) -> Answers:
    """Answer n questions on several devices; of d devices the i-th takes the questions i, i + d, i + 2d …

    Args:
        devices: of torch; the model is moved to the first and copied to the others.
        model: that answers.
        answer: gives the answers to the questions of a range by a model on its device; called in a thread a device.
        questions: n.

    Returns:
        n answers, in the order of the questions.
    """
    models = [model.to(devices[0]), *(copy.deepcopy(model).to(device) for device in devices[1:])]
    shares = [range(i, questions, len(models)) for i in range(len(models))]

    def work(own: RagModel, share: range) -> Answers:
        with halved_on_gpu(own.device):  # a thread's own
            return answer(own, share)

    answers = [""] * questions
    with ThreadPoolExecutor(len(models), thread_name_prefix="answer") as pool:
        for share, found in zip(shares, pool.map(work, models, shares), strict=True):
            answers[share.start :: len(models)] = found
    return answers
