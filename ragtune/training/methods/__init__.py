"""The ways to train, by name: what a run's `method` chooses."""

from ragtune.training.methods.alternate import Alternate
from ragtune.training.methods.base import Method
from ragtune.training.methods.end2end import RagEnd2End
from ragtune.training.methods.federated import Federated
from ragtune.training.methods.lsr import Lsr
from ragtune.training.methods.rag import Rag, RagToken
from ragtune.training.methods.ralt import Ralt
from ragtune.training.methods.retriever import Retriever

METHODS: dict[str, type[Method]] = {
    "rag": Rag,
    "rag-token": RagToken,
    "rag-end2end": RagEnd2End,
    "lsr": Lsr,
    "ralt": Ralt,
    "alternate": Alternate,
    "retriever": Retriever,
    "federated": Federated,
}
