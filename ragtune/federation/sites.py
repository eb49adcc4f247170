"""The sites of a simulation: one run's questions divided among them."""

from pathlib import Path

import datasets
import numpy as np

from ragtune.errors import TrainingError
from ragtune.federation.site import Site
from ragtune.files import atomic_path
from ragtune.questions.tokenization import TOKENIZATION_FILE
from ragtune.training.arguments import RunFiles
from ragtune.training.pairs import Pairs


def divide(pairs: Pairs, files: RunFiles, folder: Path, count: int, seed: int) -> list[Site]:
    """Deal a run's questions out to sites; each searches the run's knowledge base. What is there already stays.

    Every question, those of validation too, is at one site, drawn by the seed; the sites' sizes differ by one at most.

    Args:
        pairs: the run's questions.
        files: its knowledge base.
        folder: gets a folder for each site.
        count: how many sites.
        seed: of the draw.

    Raises:
        TrainingError: there are too few questions.
    """
    if count > min(len(pairs.train), len(pairs.validation) or count):
        raise TrainingError(
            f"sites={count}: {pairs.folder} has {len(pairs.train)} questions to train on and {len(pairs.validation)} "
            "to validate on, and a site without any has nothing to do; lower sites, or give more questions"
        )
    sites = []
    for place in range(count):
        name = f"site-{place + 1}"
        own = folder / name / "pairs"
        if not own.is_dir():
            shares = {split: _share(getattr(pairs, split), place, count, seed) for split in ("train", "validation")}
            with atomic_path(own) as temporary:
                one_file = dict.fromkeys(shares, 1)  # of an empty split too, which could not be loaded without
                datasets.DatasetDict(shares).save_to_disk(str(temporary), num_shards=one_file)
                (temporary / TOKENIZATION_FILE).write_bytes((pairs.folder / TOKENIZATION_FILE).read_bytes())
        sites.append(
            Site(
                name=name,
                dataset=str(own),
                knowledge_base=files.knowledge_base_folder,
                model=str(folder / "start"),
                work=str(folder / name / "work"),
                milvus_uri=files.milvus_uri,
                trust_remote_code=files.trust_remote_code,
            )
        )
    return sites


def _share(split: datasets.Dataset, place: int, count: int, seed: int) -> datasets.Dataset:
    order = np.random.default_rng([seed, len(split)]).permutation(len(split))
    return split.select(np.sort(order[place::count]))
