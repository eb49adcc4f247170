"""A knowledge base opened for reading: through its index, or exactly where another process has its database open."""

from collections.abc import Sequence
from pathlib import Path

from ragtune.errors import TakenError
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.pointers import Pointer
from ragtune.progress import say


def open_to_read(
    place: str | Path | Pointer, *, encoder_fingerprint: str = "", uri: str = "", devices: Sequence[str] = ()
) -> KnowledgeBase | ExactKnowledgeBase:
    """Open a version to search it; an embedded Milvus has one owner, exact search needs none and misses nothing.

    Args:
        place, encoder_fingerprint, uri: as for `KnowledgeBase.open`.
        devices: that search exactly, as for `ExactKnowledgeBase.open`.

    Raises:
        KnowledgeBaseError: as `KnowledgeBase.open`, but for a database that another process has open.
    """
    try:
        return KnowledgeBase.open(place, encoder_fingerprint=encoder_fingerprint, uri=uri)
    except TakenError:
        base = ExactKnowledgeBase.open(place, encoder_fingerprint=encoder_fingerprint, devices=devices)
        say(f"{base.folder}: its Milvus is open in another process; searching exactly, without the index")
        return base
