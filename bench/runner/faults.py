"""What goes wrong while a batch is made: which images fail for it, with what words, and who is to blame.

- The images of an arm fail, and the other arms continue, where a method of the arm is to blame: its own code was
  running, or it handed on something that is no latents of the batch, or it raised a UserError. A step that had handed
  on to the rest of the step was not running any more.
- They fail too where the arm alone runs what broke, though no line of its method did: it sets how images are sampled,
  puts weights on the denoiser, or adds residuals within it.
- All else is common to the arms, the baseline among them: an error of ours or of a library, which is raised.
- An image whose pixels cannot be made fails by itself, of whichever arm it is.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import identity
from bench.errors import MethodFault, UserError, first_line
from bench.identity import interactive
from bench.methods.base import Chain, Method
from bench.runner.limits import OverTime
from bench.sampling import loop

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Session

NOT_FINITE = "its {what} not finite (NaN or infinity); try another guidance or precision"
TOO_FAR = "its {what} beyond {most:g}, where latents of unit variance stay within 10; try another guidance or precision"
FAR = 1e4
"""Beyond it latents are broken: a network reads nothing of them, and decoded they are one colour."""
UNDECODED = "its pixels cannot be made: {error}"
_HANDS_ON = "following"
"""The function of the loop that a method's step calls for the rest of the step."""


def contained(error: BaseException) -> bool:
    """Whether an error may be one arm's or one metric's alone: all but Ctrl-C. `sys.exit` of a plugin is one."""
    return not isinstance(error, KeyboardInterrupt)


def fault_of(chain: Chain, error: BaseException) -> str | None:
    """One line on an error for which the images of a chain's arm fail; None where it is to be raised."""
    if isinstance(error, OverTime):
        return str(error)
    if not chain.links or not contained(error):
        return None
    if isinstance(error, UserError | MethodFault):
        return first_line(error)
    files = _files(chain)
    frames = traceback.extract_tb(error.__traceback__)
    own = [i for i, f in enumerate(frames) if f.filename in files]
    handed_on = [i for i, f in enumerate(frames) if f.filename == loop.__file__ and f.name == _HANDS_ON]
    if own and own[-1] > max(handed_on, default=-1):
        return described(error, frames[own[-1]])
    return described(error) if any(map(_alone, chain.links)) else None


def _files(chain: Chain) -> set[str]:
    """Where the code of a chain's methods stands; a hook may be inherited from a class of another file."""
    classes = {c for m in chain.links for c in type(m).__mro__ if issubclass(c, Method) and c not in (Method, Chain)}
    # What a notebook defines has no file; its tracebacks name the cell.
    files = (getattr(sys.modules.get(c.__module__), "__file__", None) or interactive.code_file(c) for c in classes)
    return {str(file) for file in files} - {""}


def _alone(method: Method) -> bool:
    """Whether its arm runs code of the libraries that no plain arm does."""
    kind = type(method)
    return (
        kind.sampling is not Method.sampling
        or kind.adapters is not Method.adapters
        or kind.residuals is not Method.residuals
    )


def of_scorer(error: BaseException) -> str:
    """One line on an error of a scorer, with the file and line of a plugin where one is to blame."""
    if isinstance(error, UserError | OverTime):
        return first_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    return described(error, next((f for f in reversed(frames) if identity.owner(f.filename)), None))


def described(error: BaseException, frame: traceback.FrameSummary | None = None) -> str:
    """`ValueError: what it says (file.py:12)`: one line, with where it was raised unless another frame is given.

    Code of another package is named as such: `(file.py:12 of my-package 1.0)`.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = frame or (frames[-1] if frames else None)
    return f"{type(error).__name__}: {first_line(error)}{_place(at.filename, at.lineno) if at else ''}"


def code_of(thing: Any) -> str:
    """` (file.py:12 of my-package 1.0)`: where a function, or a callable object's class, has its code; or nothing."""
    function = thing if inspect.isroutine(thing) else vars(type(thing)).get("__call__")
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None
    return _place(code.co_filename, code.co_firstlineno) if code else ""


def _place(file: str, line: int | None) -> str:
    name, of = Path(file).name, identity.owner(file)
    return f" ({name}:{line}{f' of {of}' if of not in (None, name) else ''})"


def of_plugin(error: BaseException) -> str | None:
    """One line on an error of another package's code, with its file and line; None where ours was the last to run.

    An error that a worker sent has no frames, and brings the line with it.
    """
    if said := getattr(error, "of_plugin", None):
        return str(said)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if identity.is_own(frame.filename):
            return None
        if package := identity.owner(frame.filename):
            at = f"{frame.filename}:{frame.lineno}"
            whose = "the plugin" if package == Path(frame.filename).name else "the package"
            return f"{at}: {type(error).__name__}: {first_line(error)}; this is code of {whose} {package}"
    return None


def checked(given: Any, x: torch.Tensor, session: Session) -> torch.Tensor:
    """A method's noise as latents of the batch, else MethodFault; images fail where it is not finite."""
    if tuple(getattr(given, "shape", ())) != tuple(x.shape):
        raise MethodFault(f"the method made noise of shape {getattr(given, 'shape', None)}; expected {tuple(x.shape)}")
    found: torch.Tensor = given.detach().to(x.dtype)
    fail_not_finite(session, range(len(x)), found, "initial noise is", most=FAR)
    return found


def fail_not_finite(
    session: Session, places: Any, values: torch.Tensor, what: str, *, most: float | None = None
) -> list[bool]:
    """Give up the images whose values (one row a place) are not finite, or beyond `most`; returns which are."""
    finite: list[bool] = values.isfinite().flatten(1).all(1).tolist()
    near: list[bool] = finite if most is None else (values.abs().flatten(1).amax(1) <= most).tolist()
    for i, whole, good in zip(places, finite, near, strict=True):
        if not whole:
            session.fail(i, NOT_FINITE.format(what=what))
        elif not good:
            session.fail(i, TOO_FAR.format(what=what, most=most))
    return [a and b for a, b in zip(finite, near, strict=True)]
