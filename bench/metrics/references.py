"""What a set metric compares with: a folder of the user's images, or statistics of such a folder in an .npz file.

Features of a folder are taken once for each network and kept in the cache, so that FID and KID share them and a second
run does not begin with ten thousand photographs.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.digests import file_digest
from bench.errors import UserError, first_line
from bench.progress import Progress
from bench.store import write_atomically
from bench.store.cache import default_folder
from bench.store.images import opened, rgb

if TYPE_CHECKING:
    import numpy as np

    from bench.metrics.distances import Gaussian

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_BATCH = 64

Features = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Statistics:
    """Features (n, D) of a reference, or only their mean (D,) and covariance (D, D)."""

    metric: str
    place: str
    features: Any = None
    mean: Any = None
    covariance: Any = None

    def gaussian(self) -> Gaussian:
        """The reference as a Gaussian."""
        from bench.metrics.distances import Gaussian

        if self.features is not None:
            return Gaussian.of(self.features)
        return Gaussian(self.mean, self.covariance)

    def every(self) -> np.ndarray:
        """The features (n, D); UserError where only mean and covariance are known."""
        if self.features is None:
            raise UserError(
                f"metric {self.metric!r}: reference {self.place!r} has mu and sigma, but this metric needs the "
                "features of every image: give an .npz file with feats, or the folder of images"
            )
        return self.features


@dataclass(frozen=True)
class Reference:
    """A reference by its path."""

    metric: str
    place: str
    fewest: int
    """Images that it must have."""

    @property
    def path(self) -> Path:
        return Path(self.place).expanduser()

    def digest(self) -> str:
        """16 hex digits of its content, whatever its files are called; UserError where it is not there."""
        if self.path.is_file():
            if self.path.suffix != ".npz":
                raise self._wrong(f"a file {self.path.suffix or 'without suffix'}")
            return file_digest(self.path)[:16]
        return _content(tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in self._images()))

    def statistics(self, features: Features, network: str) -> Statistics:
        """Its statistics by a network's `features`; those of a folder come from the cache where they were taken before.

        UserError where it is too small, has an image that does not decode, or is a file of another network.
        """
        digest = self.digest()
        if self.path.is_file():
            return self._stored(features)
        kept = default_folder() / "references" / f"{network}-{digest}.npy"
        import numpy as np

        try:
            found = np.load(kept, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not there, or cut short: to take them again is always right
            found = self._taken(features)
            buffer = io.BytesIO()
            np.save(buffer, found, allow_pickle=False)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, buffer.getvalue())
        return Statistics(self.metric, self.place, features=found)

    def _images(self) -> list[Path]:
        if not self.path.is_dir():
            raise self._wrong("nothing is there")
        found = sorted(p for p in self.path.rglob("*") if p.suffix.lower() in IMAGES and p.is_file())
        if len(found) < self.fewest:
            raise self._wrong(f"it holds {len(found):,} images", f" of at least {self.fewest:,} images")
        return found

    def _taken(self, features: Features) -> np.ndarray:
        import numpy as np

        files, found = self._images(), []
        with Progress(f"reference of {self.metric}", len(files)) as progress:
            for i in range(0, len(files), _BATCH):
                part = files[i : i + _BATCH]
                found.append(features([self._read(file) for file in part]))
                progress.advance(len(part))
        return np.concatenate(found)

    def _read(self, file: Path) -> np.ndarray:
        try:
            with opened(file) as picture:
                return rgb(picture)
        except Exception as error:  # Pillow's plugins raise whatever they like
            said = first_line(error)
            raise UserError(f"metric {self.metric!r}: reference image {file} does not decode ({said})") from error

    def _stored(self, features: Features) -> Statistics:
        import numpy as np

        try:
            with np.load(self.path, allow_pickle=False) as opened:
                arrays = {name: np.asarray(opened[name], np.float64) for name in ("mu", "sigma", "feats")
                          if name in opened}  # fmt: skip
        except Exception as error:  # a zip, a header or an array that is not one
            raise self._wrong(f"it does not load ({first_line(error)})") from error
        d = features([np.zeros((64, 64, 3), np.uint8)]).shape[1]
        shapes = {"mu": (d,), "sigma": (d, d), "feats": (len(arrays["feats"]) if "feats" in arrays else 0, d)}
        for name, array in arrays.items():
            if array.shape != shapes[name] or not np.isfinite(array).all():
                raise self._wrong(
                    f"its {name} is of shape {array.shape}, or not finite", f", of a network with {d} features"
                )
        if "feats" in arrays:
            if len(arrays["feats"]) < self.fewest:
                raise self._wrong(f"it holds {len(arrays['feats']):,} images", f" of at least {self.fewest:,} images")
            return Statistics(self.metric, self.place, features=arrays["feats"])
        if not {"mu", "sigma"} <= arrays.keys():
            raise self._wrong("it has neither mu and sigma nor feats")
        return Statistics(self.metric, self.place, mean=arrays["mu"], covariance=arrays["sigma"])

    def _wrong(self, what: str, more: str = "") -> UserError:
        return UserError(
            f"metric {self.metric!r}: reference {self.place!r}: {what}; expected a folder of images, or an .npz file "
            f"as clean-fid writes them{more}"
        )


@cache
def _content(files: tuple[tuple[str, int, int], ...]) -> str:
    """16 hex digits over the files' contents; the rest of the key says whether they are as they were."""
    digests = sorted(file_digest(Path(name)) for name, _, _ in files)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
