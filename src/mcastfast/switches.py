"""Keywords that are True or False."""

from __future__ import annotations


def check_switches(**given: object) -> None:
    """Raise TypeError for what is neither True nor False: "no" would be taken for yes."""
    for keyword, value in given.items():
        if not isinstance(value, bool):
            raise TypeError(f"{keyword} is True or False, not {value!r}")


def check_optional_switches(**given: object) -> None:
    """The same where None leaves the choice to mcastfast or the system."""
    for keyword, value in given.items():
        if not isinstance(value, bool | None):
            raise TypeError(f"{keyword} is True, False or None, not {value!r}")
