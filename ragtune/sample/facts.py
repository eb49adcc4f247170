"""The facts of the little world, from its three tables."""

from dataclasses import dataclass

from ragtune.sample.countries import COUNTRIES
from ragtune.sample.elements import ELEMENTS
from ragtune.sample.us_states import US_STATES

_COLUMNS = {
    "country": (COUNTRIES, ("capital", "continent", "currency", "language", "iso code", "calling code")),
    "element": (ELEMENTS, ("symbol", "atomic number", "family", "discoverer", "discovery year", "eponym")),
    "state": (US_STATES, ("capital", "largest city", "nickname", "statehood", "postal code")),
}

_WITH_ARTICLE = frozenset(
    """Bahamas; Central African Republic; Comoros; Czech Republic; Democratic Republic of the Congo; Dominican Republic;
    Gambia; Maldives; Marshall Islands; Netherlands; Philippines; Republic of the Congo; Seychelles; Solomon Islands;
    United Arab Emirates; United Kingdom; United States""".replace("\n    ", " ").split("; ")
)


@dataclass(frozen=True)
class Subject:
    """The subject of one passage.

    Attributes:
        kind: "country", "element" or "state".
        name: as it stands in the passage's title.
        facts: value by relation ("capital": "Lilongwe"); a relation that is unknown or disputed is absent.
    """

    kind: str
    name: str
    facts: dict[str, str]

    @property
    def in_a_sentence(self) -> str:
        """The name as it is written inside a sentence: "the Gambia", "gold", "Malawi"."""
        if self.kind == "element":
            return self.name.lower()
        return f"the {self.name}" if self.name in _WITH_ARTICLE else self.name


def read_subjects() -> list[Subject]:
    """Every subject of the little world, in the order of the tables."""
    subjects = []
    for kind, (table, relations) in _COLUMNS.items():
        for line in table.strip().splitlines():
            name, *values = line.split("|")
            facts = {relation: value for relation, value in zip(relations, values, strict=True) if value}
            subjects.append(Subject(kind, name, facts))
    return subjects
