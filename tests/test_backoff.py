"""`--batch-size auto`: doubled while a batch fits and makes an image take less time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.backoff import AUTO, DEFAULT_BATCH, grown, size_of


def machine(
    *, fits: int, fixed: float, each: float, saturates: int = 10**9
) -> tuple[list[int], Callable[[int], float]]:
    """A GPU that `fits` images; a batch takes `fixed` seconds, and more for images beyond `saturates` at once."""
    import torch

    asked: list[int] = []

    def seconds(n: int) -> float:
        asked.append(n)
        if n > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fixed + each * n + fixed * max(0, n - saturates) / saturates

    return asked, seconds


@pytest.mark.parametrize(("fits", "size"), [(1, 1), (3, 2), (12, 8), (64, 64), (500, 64)])
def test_it_grows_to_what_fits(fits: int, size: int) -> None:
    asked, seconds = machine(fits=fits, fixed=1.0, each=0.01)
    assert grown(seconds) == size
    assert asked == [2**k for k in range(len(asked))], "one throwaway batch a size"


def test_it_stops_where_a_larger_batch_makes_no_image_faster() -> None:
    """A GPU that four images fill takes twice the time for eight."""
    assert grown(machine(fits=64, fixed=1.0, each=0.0, saturates=4)[1]) == 4
    assert grown(machine(fits=64, fixed=0.0, each=1.0)[1]) == 1


def test_where_not_even_one_fits_the_run_is_left_to_say_so() -> None:
    assert grown(machine(fits=0, fixed=1.0, each=0.0)[1]) == 1


def test_auto_is_for_a_gpu_and_a_number_is_kept() -> None:
    assert size_of(AUTO, "cpu") == size_of(None, "cpu") == DEFAULT_BATCH["cpu"]
    assert size_of(AUTO, "cuda:1") == AUTO
    assert size_of(None, "cuda:1") == DEFAULT_BATCH["cuda"]
    assert size_of(7, "cuda") == size_of(7, "cpu") == 7
