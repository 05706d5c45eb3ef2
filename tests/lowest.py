"""Prints a pip constraint, name==version, for every lower bound that pyproject.toml declares."""

import sys
from collections.abc import Iterator
from pathlib import Path

from pip._vendor import tomli
from pip._vendor.packaging.requirements import Requirement


def lower_bounds(pyproject: Path, extras: list[str]) -> Iterator[str]:
    """The pins of the base dependencies and of those extras, and of the extras that these name."""
    project = tomli.loads(pyproject.read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"]:
        yield from _pin(Requirement(line))
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name == project["name"]:
                yield from lower_bounds(pyproject, sorted(requirement.extras))
            else:
                yield from _pin(requirement)


def _pin(requirement: Requirement) -> Iterator[str]:
    yield from (f"{requirement.name}=={part.version}" for part in requirement.specifier if part.operator == ">=")


if __name__ == "__main__":
    print("\n".join(sorted(set(lower_bounds(Path("pyproject.toml"), sys.argv[1:])))))
