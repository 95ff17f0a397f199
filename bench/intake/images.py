"""Image files that the harness did not make -> images of a ledger: decoded, said to be changed, or failed.

An image's job is the digest of its file and its prompt, so a stopped run resumes and a changed file is a new image.
What is scored is a PNG of 8-bit RGB: the given file where it is one, else made of it.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.digests import file_digest
from bench.errors import UserError
from bench.intake.matching import Given
from bench.progress import Progress
from bench.runner.plan import content_hash
from bench.store import Image, Ledger, clone_or_copy, prompt_key, write_atomically
from bench.store.images import decode, pixel_digest

_BATCH = 64


def take_in(images: Sequence[Given], ledger: Ledger) -> tuple[list[str], Counter[str]]:
    """Every file as an image of the ledger; returns the job of each, and how often which change was needed.

    A file that does not decode is a failure of its own, and the others continue.
    """
    (ledger.folder / "images").mkdir(exist_ok=True)
    have = {job for job, image in ledger.images().items() if (ledger.folder / image.file).is_file()}
    known: dict[str, str] = {i.job_id: json.loads(i.facts).get("changed", "") for i in ledger.images().values()}
    jobs: list[str] = []
    with Progress("read", len(images)) as progress:
        for at in range(0, len(images), _BATCH):
            made, failed = [], []
            for one in images[at : at + _BATCH]:
                digest = _file_digest(one.path)
                job = content_hash({"file": digest, "prompt": prompt_key(one.prompt)})
                jobs.append(job)
                if job in have:
                    continue
                try:
                    image = _image(one, job, digest, ledger.folder)
                except UserError as error:
                    failed.append((job, f"{one.path.name} {error}", _now()))
                    continue
                have.add(job)
                known[job] = json.loads(image.facts).get("changed", "")
                made.append(image)
            ledger.put_images(made)
            ledger.put_failures(failed)
            progress.advance(len(images[at : at + _BATCH]))
    return jobs, Counter(known[job] for job in jobs if known.get(job))


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, and it is given as an image") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _image(one: Given, job: str, digest: str, folder: Path) -> Image:
    pixels, changed = decode(one.path)
    file = f"images/{digest[:32]}.png"
    if one.path.suffix.lower() == ".png" and not changed:
        clone_or_copy(one.path, folder / file)
    else:
        write_atomically(folder / file, _png(pixels))
    return Image(
        job_id=job,
        digest=pixel_digest(pixels),
        file=file,
        calls_noise=0,
        calls_sampling=0,
        encode_ms=0.0,
        noise_ms=0.0,
        sampling_ms=0.0,
        decode_ms=0.0,
        peak_bytes=None,
        peak_kind="",
        batch=1,
        hardware="",
        latent_digest="",
        created=_now(),
        facts=json.dumps({"changed": changed} if changed else {}),
    )


def _png(pixels: Any) -> bytes:
    from PIL import Image as Pictures

    buffer = io.BytesIO()
    Pictures.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
