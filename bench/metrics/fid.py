"""FID (Heusel et al. 2017, 1706.08500), as clean-fid computes it in its mode `clean` (Parmar et al. 2022, 2104.11222).

clean-fid's own functions do it: `build_resizer` resizes, `InceptionV3W` gives the features of NVIDIA's published file
(`features.InceptionFeatures`), `frechet_distance` gives the value. Its `build_feature_extractor` is not asked: that one
looks for the weights in the folder of temporary files and downloads them while it scores, here they are given by path.
Neither is the order of its pipeline: features are kept once an image, and a reference's statistics by its content.

The paper's Fig. 6 and 12 give it of 5,000 images of ImageNet's fishes, against those of ImageNet; both are figures
without numbers, and how the photographs were cropped is not said. Values at different numbers of images do not compare:
the bias falls with their number (Chong & Forsyth 2020).
"""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np

from bench import kinship
from bench.metrics.backbones import INCEPTION
from bench.metrics.base import MetricEntry
from bench.metrics.distances import Floats, Frechet
from bench.metrics.features import InceptionFeatures, inception, set_entry
from bench.registry import add_plugin


class CleanFid(Frechet):
    """clean-fid's distance of the images as they are; by weights, and where its root has no real value, our own."""

    identity = f"clean-fid-1-{Frechet.identity}"

    def __call__(self, rows: Floats, weights: Floats) -> float:
        if len(rows) < 2 or not (weights == 1).all():
            return super().__call__(rows, weights)
        from cleanfid.fid import frechet_distance

        d = rows.shape[1] // 2
        features, spectrum = rows[:, :d], rows[0, d:]  # along the reference's axes, from its mean
        covariance = np.cov(features, rowvar=False)
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            try:
                found = float(frechet_distance(features.mean(axis=0), covariance, np.zeros(d), np.diag(spectrum)))
            except ValueError:  # it refuses an imaginary part, which roots of singular products may get
                return super().__call__(rows, weights)
        return found if np.isfinite(found) else super().__call__(rows, weights)


_ROW = MetricEntry(
    "fid",
    title="FID",
    unit="squared distance",
    load=None,
    identify=str,
    higher_is_better=False,
    kind="set",
    value=CleanFid(),
    fewest=2048,  # Inception's features: of fewer images the covariance is singular and the value mostly bias
    scale="0 and more; the paper's is a figure without numbers",
    about="Fréchet distance to a reference in Inception's features, by clean-fid's resizing",
    license="Apache-2.0 (TensorFlow's Inception; NVIDIA's file states none)",
    blind_to="the prompt, and a single image; what ImageNet's classes do not need, such as faces and text in images",
    unfit_for="methods trained on the reference's images; rows with another number of images than their neighbours",
    made_of=(kinship.IMAGENET_INCEPTION,),
    ms=INCEPTION.ms,
    gib=INCEPTION.gib,
)
add_plugin(
    "metrics", "fid", set_entry(_ROW, InceptionFeatures, inception("fid"), against=lambda s: s.gaussian()), "bench"
)
