"""The images of a compiled pipeline: another registry, another tag, or a name of one's own, such as one by digest."""

import re
from collections.abc import Iterable

from ragtune.errors import ParameterError

_LINE = re.compile(r"^( +image: )(\S+)$", re.MULTILINE)
_PARTS = re.compile(r"((?:.*/)?)([^/:@]+)((?::[^@/]+)?(?:@.+)?)")  # registry and path, name, tag and digest
_REGISTRY = re.compile(
    r"[a-z0-9]([\w.-]*[a-z0-9])?(:\d+)?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*", re.ASCII | re.IGNORECASE
)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")
_MOVES = "latest"


def set_images(text: str, registry: str = "", tag: str = "", named: Iterable[str] = ()) -> str:
    """Name other images in a compiled pipeline.

    Args:
        text: the pipeline's YAML.
        registry: with a path, such as registry.example.org/me; "" leaves it.
        tag: of all images; "" leaves it.
        named: such as "ragtune-train=registry.example.org/me/ragtune-train@sha256:…"; goes before the other two.

    Raises:
        ParameterError: a name, a registry, a tag or a digest is not possible, or the tag is one that moves.
    """
    if registry and not _REGISTRY.fullmatch(registry.rstrip("/")):
        raise ParameterError(
            f"--registry {registry}: is no registry; write it as registry.example.org/me or localhost:5000"
        )
    if tag:
        _check_tag(tag, f"--tag {tag}")
    own = dict(_split(one) for one in named)
    known = {_PARTS.fullmatch(image)[2] for image in images_of(text)}  # type: ignore[index]  # any name has parts
    for name in own:
        if name not in known:
            raise ParameterError(f"--image {name}=…: the pipeline has no such image; it has {', '.join(sorted(known))}")

    def other(line: re.Match[str]) -> str:
        place, name, suffix = _PARTS.fullmatch(line[2]).groups()  # type: ignore[union-attr]
        place = f"{registry.rstrip('/')}/" if registry else place
        return line[1] + own.get(name, f"{place}{name}{f':{tag}' if tag else suffix}")

    return _LINE.sub(other, text)


def images_of(text: str) -> list[str]:
    """The images of a compiled pipeline, each once."""
    return sorted({image for _, image in _LINE.findall(text)})


def without_registry(text: str) -> list[str]:
    """Those that a cluster would look for at docker.io/library."""
    return [image for image in images_of(text) if "/" not in image]


def _split(assignment: str) -> tuple[str, str]:
    name, equals, image = assignment.partition("=")
    place, _, digest = image.partition("@")
    path, colon, tag = place.rpartition(":") if ":" in place.rpartition("/")[2] else (place, "", "")
    if not equals or not _REGISTRY.fullmatch(path) or (digest and not _DIGEST.fullmatch(f"@{digest}")):
        raise ParameterError(f"--image {assignment}: write it as NAME=registry/name:tag or NAME=registry/name@sha256:…")
    if not digest:
        _check_tag(tag if colon else _MOVES, f"--image {assignment}")
    return name, image


def _check_tag(tag: str, given: str) -> None:
    if not _TAG.fullmatch(tag):
        raise ParameterError(f"{given}: {tag} is no tag; write letters, digits, dots and dashes")
    if tag == _MOVES:
        raise ParameterError(
            f"{given}: the tag latest moves, and KFP's cache would not see it; give a version, or a digest"
        )
