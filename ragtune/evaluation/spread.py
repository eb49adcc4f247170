"""Questions answered on all devices of a machine at once."""

from collections.abc import Callable, Sequence

from ragtune.models.devices import halved_on_gpu, replicas, shared_out
from ragtune.models.rag import RagModel

Answers = list[str]


def answer_on(
    devices: Sequence[str], model: RagModel, answer: Callable[[RagModel, range], Answers], questions: int
) -> Answers:
    """Answer n questions on several devices, as `shared_out` has it.

    Args:
        devices: of torch; the model is moved to the first and copied to the others.
        model: that answers.
        answer: gives the answers to the questions of a range by a model on its device; called in one thread per device.
        questions: n.

    Returns:
        n answers, in the order of the questions.
    """

    def work(own: RagModel, share: range) -> Answers:
        with halved_on_gpu(own.device):  # a thread's own
            return answer(own, share)

    answers = [""] * questions
    for share, found in shared_out(replicas(model, devices), work, questions):
        answers[share.start :: share.step] = found
    return answers
