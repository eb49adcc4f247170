"""A corpus cut into passages, each text once."""

from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_path
from ragtune.knowledge.corpus import CorpusRow, read_corpus
from ragtune.knowledge.hashes import HASH, Hashes, Rows, first_of_equals
from ragtune.knowledge.passages import Passage, content_digest, id_digest, write_passages
from ragtune.knowledge.splitting import split_text
from ragtune.progress import progress
from ragtune.questions.cleaning import text_id
from ragtune.settings.pipeline import PARAMETERS

_ROWS_AT_ONCE = 10_000


def split_passages(
    corpus_uri: str | Path, output_path: str | Path, max_words: int = 100, quoting: str = "auto"
) -> dict[str, int]:
    """Cut a corpus into passages, drop what is empty or a duplicate, and write them as Parquet (`SCHEMA`).

    A row `w7` of more than `max_words` words becomes `w7#0`, `w7#1`, …, cut at sentences where possible. Of passages
    with the same title and text the first is kept, with the ids of all rows that it stands in as its `source_ids`,
    each with the `text_id` of the row's text, by which questions that know their paragraph name it.
    The text is streamed; of each row and each passage about 50 bytes stay in memory.

    Args:
        corpus_uri: JSONL, Parquet, CSV or TSV with the columns id, text and perhaps title; see `read_corpus`.
        output_path: the Parquet file to write.
        max_words: of a passage, as white space separates them; see `split_text` for scripts that have none there.
        quoting: of a CSV or TSV corpus, see `ragtune.questions.rows.read_rows`.

    Returns:
        Counts: `corpus_rows`, `passages`, `rows_empty` (no text, dropped), `rows_split`, `passages_duplicate`.

    Raises:
        ParameterError: `max_words` is below 1.
        KnowledgeBaseError: there is no text at all, a row is broken, or one id stands for two different texts.
        StorageError: the corpus cannot be read, or the output not written. Nothing is written in any of these cases.
    """
    PARAMETERS["max_passage_words"].check(max_words, "max_words")
    read = partial(read_corpus, corpus_uri, quoting)
    cut = _Cut()
    with atomic_path(output_path) as temporary:
        everything = temporary.with_name("pieces")
        write_passages(cut.pieces(read(), max_words), everything)
        if not len(cut.first_piece):
            rows = f"no text in any of {cut.rows_read:,} rows" if cut.rows_read else "is empty"
            raise KnowledgeBaseError(f"{corpus_uri}: {rows}; a corpus with id, title and text is needed")
        repeated = cut.repeated_rows(read)
        original = cut.originals(repeated)
        new = original == np.arange(len(original))
        if new.all():
            everything.rename(temporary)
        else:
            write_passages(_merged(everything, original), temporary)
    return {
        "corpus_rows": cut.rows_read,
        "passages": int(new.sum()),
        "rows_empty": cut.rows_read - len(cut.first_piece),
        "rows_split": int((cut.piece_counts > 1)[~repeated].sum()),
        "passages_duplicate": int(repeated.sum() + ((original >= 0) & ~new).sum()),
    }


class _Cut:
    """Hashes of everything that a corpus was cut into, side by side, to tell afterwards what stood there before.

    An entry is a use of an id: of every row with text, and of every piece of a row that was cut.
    """

    def __init__(self) -> None:
        self.rows_read = 0
        self.first_entry, self.first_piece = array("q"), array("q")  # of every row with text
        self._ids, self._texts = bytearray(), bytearray()  # hashes, 16 bytes an entry
        self._pieces = bytearray()  # hashes, 16 bytes a piece

    def pieces(self, rows: Iterator[CorpusRow], max_words: int) -> Iterator[Passage]:
        """All pieces of all rows, whether they are new or not."""
        for row in progress(rows, "splitting", unit="rows"):
            self.rows_read += 1
            if not row.text:
                continue
            self.first_entry.append(len(self._ids) // HASH.itemsize)
            self.first_piece.append(len(self._pieces) // HASH.itemsize)
            self._use(row.id, content_digest(row.title, row.text))
            texts = split_text(row.text, max_words)
            sources = (row.id, text_id(row.text))
            for number, text in enumerate(texts):
                digest = content_digest(row.title, text)
                identifier = _piece_id(row.id, number) if len(texts) > 1 else row.id
                if len(texts) > 1:
                    self._use(identifier, digest)
                self._pieces += digest
                yield Passage(identifier, row.title, text, sources)

    @property
    def piece_counts(self) -> Rows:
        """Number of pieces of every row with text."""
        return np.diff(np.array(self.first_piece), append=len(self._pieces) // HASH.itemsize)

    def repeated_rows(self, read: Callable[[], Iterator[CorpusRow]]) -> npt.NDArray[np.bool_]:
        """Tell of every row with text whether it stood there before, (rows,) bool.

        Raises:
            KnowledgeBaseError: an id stands for two different texts.
        """
        first, texts = first_of_equals(_hashes(self._ids)), _hashes(self._texts)
        if len(differing := np.flatnonzero(texts[first] != texts)):
            self._raise_ambiguous(read, int(differing[0]), int(first[differing[0]]))
        entries = np.array(self.first_entry)
        return (first[entries] != entries) & np.isin(first[entries], entries)  # not a piece of another row

    def originals(self, repeated: npt.NDArray[np.bool_]) -> Rows:
        """Name for every piece the first one with its title and text, (pieces,); -1 for those of a repeated row."""
        kept = np.flatnonzero(~np.repeat(repeated, self.piece_counts))
        original = np.full(len(self._pieces) // HASH.itemsize, -1)
        original[kept] = kept[first_of_equals(_hashes(self._pieces)[kept])]
        return original

    def _use(self, identifier: str, digest: bytes) -> None:
        self._ids += id_digest(identifier)
        self._texts += digest

    def _raise_ambiguous(self, read: Callable[[], Iterator[CorpusRow]], entry: int, earlier: int) -> None:
        numbers = np.searchsorted(self.first_entry, [earlier, entry], side="right") - 1
        with_text = enumerate(row for row in read() if row.text)
        first, row = (next(row for at, row in with_text if at == number) for number in numbers)
        piece = entry - self.first_entry[numbers[1]] - 1
        identifier = _piece_id(row.id, piece) if piece >= 0 else row.id
        raise KnowledgeBaseError(
            f'{row.place}: the id "{identifier}" stands for another text at {first.place}; give each text its own id'
        )


def _piece_id(identifier: str, number: int) -> str:
    return f"{identifier}#{number}"


def _hashes(joined: bytearray) -> Hashes:
    return np.frombuffer(joined, HASH)


def _merged(path: Path, original: Rows) -> Iterator[Passage]:
    """The new ones of all pieces, each with the sources of those that are equal to it."""
    further: dict[int, list[str]] = {}
    for number, row in _rows(path, ["source_ids"]):
        if 0 <= original[number] != number:
            further.setdefault(int(original[number]), []).extend(row["source_ids"])
    for number, row in _rows(path):
        if original[number] == number:
            sources = dict.fromkeys([*row["source_ids"], *further.get(number, ())])
            yield Passage(row["id"], row["title"], row["text"], tuple(sources))


def _rows(path: Path, columns: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    with pq.ParquetFile(path) as parquet:
        batches = parquet.iter_batches(_ROWS_AT_ONCE, columns=columns)
        yield from enumerate(row for batch in batches for row in batch.to_pylist())
