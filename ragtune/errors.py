"""Exceptions, one type per domain. A message names the thing, its place and the way out."""

from ragtune.uris import shown


class RagtuneError(Exception):
    """Base of every error that a user can fix; the command lines print it without a traceback and exit with 1.

    Its message may quote a URI, or another library's message that does: their secrets are hidden in it.
    """

    def __init__(self, message: str = ""):
        super().__init__(shown(message))


class ParameterError(RagtuneError):
    """A run's parameter that is unknown, absent or of the wrong type."""


class QuestionError(RagtuneError):
    """Questions that cannot be read, or none left to train or evaluate on."""


class KnowledgeBaseError(RagtuneError):
    """A corpus or knowledge base that is missing, mismatched, unreachable or empty."""


class UnavailableError(KnowledgeBaseError):
    """A knowledge base that does not answer now, and may in a while."""


class TakenError(KnowledgeBaseError):
    """An embedded database that another process has open."""


class ModelError(RagtuneError):
    """A checkpoint that cannot be loaded or does not fit the rest."""


class TrainingError(RagtuneError):
    """A training run that cannot start, continue or be resumed."""


class EvaluationError(RagtuneError):
    """Predictions that cannot be scored or compared."""


class RegistryError(RagtuneError):
    """A model registry that refuses a version, or cannot be reached."""


class ClusterError(RagtuneError):
    """A Kubeflow API server or Ray that refuses a request, cannot be reached, or ended work without success."""


class StorageError(RagtuneError):
    """A file that cannot be read or written: absent, no permission, disk full."""
