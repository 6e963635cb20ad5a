"""What a user can do wrong, said in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake of the user's: its message is one sentence that says what is wrong and what to do.

    The commands print the message alone and exit with status 1; everything else that is raised is a fault of the
    program and keeps its traceback.
    """


def require_known(kind: str, name: object, known: Collection[str]) -> None:
    """Raise `unknown_name` unless the name is known."""
    if name not in known:
        raise unknown_name(kind, str(name), known)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name, with the nearest known names, or all of them if they are few."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif len(names) <= 12:
        hint = f"known: {', '.join(names)}."
    else:
        hint = f"there are {len(names)}, among them {', '.join(names[:5])}."
    return UserError(f"Unknown {kind} {name!r}; {hint}")


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message without its full stop, as a part of a sentence; else its class.

    Example:
        >>> first_line(ValueError("wrong size.\n  at line 3")), first_line(KeyError())
        ('wrong size', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".")
