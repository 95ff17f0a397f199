"""Files that hold no network: pickles with code, failed downloads, other programs' checkpoints, broken files."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_npnets import refused, trained

from bench.errors import UserError
from npnet.network.checkpoint import read_provenance


class Marker:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    marker, file = tmp_path / "executed", tmp_path / "sdxl.pth"
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists(), "the trap works where it is let"
    marker.unlink()
    torch.save({"unet_svd": {}, "alpha": Marker(marker)}, file)
    refused(file, "execute code.*nothing was executed")
    file.write_bytes(pickle.dumps(Marker(marker)))
    refused(file, "execute code.*nothing was executed")
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    refused(file, "nothing was executed|truncated|broken")
    assert not marker.exists()


def test_what_is_said_of_a_pickle_with_code_is_one_line_whatever_its_name(tmp_path: Path) -> None:
    """torch warns about pickles of other protocols, and takes a file for safetensors by its name."""
    for name in ("sdxl.pth", "sdxl.safetensors"):
        file = tmp_path / name
        file.write_bytes(pickle.dumps(Marker(tmp_path / "executed"), protocol=4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refused(file, "execute code.*nothing was executed")
        torch.save({"alpha": Marker(tmp_path / "executed")}, file)
        refused(file, "execute code.*nothing was executed")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    ["<html>Not found</html>", "Access denied", '{"error": "gone"}', "version https://git-lfs.github.com/spec/v1\n"],
)
def test_what_a_failed_download_left_is_not_said_to_hold_code(content: str, tmp_path: Path) -> None:
    file = tmp_path / "sdxl.pth"
    file.write_text(content)
    refused(file, "not a PyTorch file; expected a published NPNet checkpoint: get it again")


def test_a_pth_of_something_else_names_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"state_dict": {}, "epoch": 3}, file)
    refused(file, "expected the keys unet_svd, unet_embedding, embeeding, alpha, beta, found epoch, state_dict")
    torch.save(torch.zeros(3), file)
    refused(file, "found Tensor")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "not a published NPNet")


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    whole = trained().save_pretrained(tmp_path / "ours").read_bytes()
    torch.save(trained().state_dict(), tmp_path / "whole.pth")
    pickled = (tmp_path / "whole.pth").read_bytes()
    for data, suffix, said in (
        (whole[:-100], ".safetensors", "truncated"),
        (whole[:300], ".safetensors", "truncated"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), ".safetensors", r"corrupt \(digest"),
        (whole[:8] + b"{" + b"x" * 100, ".safetensors", "truncated"),
        (b"", ".safetensors", "truncated"),
        (b"", ".pth", "truncated"),
        (b"version https://git-lfs.github.com/spec/v1\n", ".pth", "truncated|broken"),
        (pickled[: len(pickled) // 2], ".pth", "truncated"),
        (b"PK\x03\x04" + b"\0" * 200, ".pth", "truncated"),
    ):
        file = tmp_path / f"broken{suffix}"
        file.write_bytes(data)
        refused(file, said)
        if suffix == ".safetensors" and data:
            with pytest.raises(UserError, match=said):
                read_provenance(file)
