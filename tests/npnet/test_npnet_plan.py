"""The `npnet` method in a plan: known by its checkpoint's content, says what chose, and one line for what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from saved_npnets import ENTRY, network, saved, session_and_noise
from saved_npnets import weights as weights

from bench import suite
from bench.analysis import results
from bench.errors import UserError
from bench.job.recording import record_suite
from bench.methods.base import Chain
from bench.prompts.base import Prompt
from bench.runner.plan import Plan, make_plan
from bench.store import Ledger
from bench.suite import Link
from npnet.method import NPNetMethod
from npnet.network import checkpoint
from npnet.teachers import base as teachers

pytestmark = pytest.mark.usefixtures("one_thread")


def planned(what: str) -> Plan:
    text = (
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\nsteps: 2\n"
        f"methods: [standard, {what}]\nmetrics: [shapes-aesthetic]\n"
    )
    return make_plan(suite.parse(text, file="p"), read=lambda name: [Prompt(0, "a ring")])


def test_a_jobs_id_is_of_the_checkpoints_content_not_of_its_place(weights: Path) -> None:
    one = saved(weights / "one.safetensors", seed=1)
    same = Path(shutil.copy(one, weights / "elsewhere.safetensors"))
    other = saved(weights / "other.safetensors", seed=2)
    ids = [set(planned(f"{{use: npnet, name: n, checkpoint: {p}}}").jobs) for p in (one, same, other)]
    assert ids[0] == ids[1] != ids[2]
    identity = NPNetMethod(checkpoint=str(one)).for_model(ENTRY).identity()
    assert identity == {"digest": checkpoint.read_provenance(one)["digest"], "scale": 1.0, "version": "1"}
    assert ids[0] != set(planned(f"{{use: npnet, name: n, checkpoint: {one}, scale: 0.5}}").jobs)


def test_a_jobs_chain_finds_its_network_again(weights: Path) -> None:
    path = saved(weights / "mine.safetensors", seed=3)
    (job,) = [j for j in planned(f"{{use: npnet, name: n, checkpoint: {path}}}").jobs.values() if j.links]
    session, x = session_and_noise()
    torch.testing.assert_close(job.chain.noise(session, x), network(3)(x, session.cond["prompt_embeds"]))


def test_auto_takes_the_checkpoint_of_the_model(weights: Path) -> None:
    """Shipped ones before the user's own; an unchanged plan when another model's arrives."""
    own = saved(weights / "own" / "shapes-sdxl.safetensors", seed=4)
    assert NPNetMethod().for_model(ENTRY).digest == checkpoint.read_provenance(own)["digest"]
    shipped = saved(weights / "shipped" / "shapes-sdxl.safetensors", seed=5)
    before = set(planned("npnet").jobs)
    assert NPNetMethod().for_model(ENTRY).digest == checkpoint.read_provenance(shipped)["digest"]
    saved(weights / "shipped" / "sdxl.safetensors", seed=6)
    assert set(planned("npnet").jobs) == before
    by_name = NPNetMethod(checkpoint="sdxl").for_model(ENTRY)
    assert by_name.digest == checkpoint.read_provenance(weights / "shipped" / "sdxl.safetensors")["digest"]


def test_a_pinned_digest_refuses_another_file(weights: Path) -> None:
    path = saved(weights / "mine.safetensors")
    digest = checkpoint.read_provenance(path)["digest"]
    assert NPNetMethod(checkpoint=str(path), digest=digest[:12]).for_model(ENTRY).digest == digest
    with pytest.raises(UserError, match=f"has digest {digest[:12]}, and 000000000000 was asked for"):
        NPNetMethod(checkpoint=str(path), digest="0" * 12).for_model(ENTRY)


def test_it_optimises_what_selected_its_pairs_and_what_its_teacher_chose_by(weights: Path) -> None:
    plain = saved(weights / "plain.safetensors", selected_by=("shapes-preference",), teacher=[{"use": "inversion"}])
    chosen = saved(
        weights / "chosen.safetensors",
        selected_by=(),
        teacher=[{"use": "best_nearby", "chooser": "shapes-clipscore", "n": 4}],
    )
    assert NPNetMethod(checkpoint=str(plain)).optimises() == ("shapes-preference",)
    assert NPNetMethod(checkpoint=str(chosen)).optimises() == ("shapes-clipscore",)
    assert Chain(links=(NPNetMethod(checkpoint=str(plain)),)).optimises() == ("shapes-preference",)
    assert NPNetMethod().optimises() == ()
    saved(weights / "shipped" / "shapes-sdxl.safetensors", selected_by=("shapes-preference",))
    assert NPNetMethod().optimises() == (), "which one auto takes, only the model says"
    assert NPNetMethod().for_model(ENTRY).optimises() == ("shapes-preference",)


def test_the_report_marks_what_the_plan_found_whatever_became_of_the_file(weights: Path) -> None:
    path = saved(weights / "shipped" / "shapes-sdxl.safetensors", selected_by=("shapes-aesthetic",))
    plan = planned("npnet")
    assert plan.optimises == {"standard": {"shapes-sdxl": []}, "npnet": {"shapes-sdxl": ["shapes-aesthetic"]}}
    ledger = Ledger(weights / "run", create=True)
    record_suite(ledger, plan)
    path.unlink()
    (weights / "own" / "other.safetensors").write_bytes(b"broken")

    def marks() -> set[tuple[str, str]]:
        return {(a["method"], m) for a in results.compute(ledger).document()["arms"] for m in a["optimises"]}

    assert marks() == {("npnet", "shapes-aesthetic")}
    assert all(c["marked"] for c in results.compute(ledger).document()["comparisons"])
    ledger.db.execute("DELETE FROM meta WHERE key = 'optimises'")
    assert marks() == set(), "an older ledger: what the method says by itself"


def test_a_network_that_taught_another_says_what_selected_its_own_pairs(weights: Path) -> None:
    first = saved(weights / "first.safetensors", selected_by=("shapes-preference",))
    _, identity = teachers.build([Link(use="npnet", params={"checkpoint": str(first)})], ENTRY)
    assert identity[0]["optimises"] == ["shapes-preference"]
    second = saved(weights / "second.safetensors", seed=1, selected_by=("shapes-clipscore",), teacher=list(identity))
    assert NPNetMethod(checkpoint=str(second)).optimises() == ("shapes-clipscore", "shapes-preference")


def test_no_checkpoint_for_a_model_is_one_line_that_says_what_to_do(weights: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint for model 'shapes-sdxl': put shapes-sdxl\.safetensors or"):
        planned("npnet")


def test_a_name_that_is_nearly_known(weights: Path) -> None:
    saved(weights / "shipped" / "shapes-sdxl.safetensors")
    with pytest.raises(UserError, match="shapes-sdxk: neither a file nor a known checkpoint; did you mean 'shapes-sd"):
        planned("{use: npnet, checkpoint: shapes-sdxk}")


def test_a_checkpoint_for_other_latents_is_refused_before_anything_is_made(weights: Path) -> None:
    path = checkpoint.save(network(latent=(4, 16, 16)), weights / "big.safetensors")
    with pytest.raises(UserError, match=r"takes latents \(4, 16, 16\), and model 'shapes-sdxl' has \(4, 8, 8\)"):
        planned(f"{{use: npnet, checkpoint: {path}}}")


def test_a_checkpoint_that_vanished_or_changed_is_reported(weights: Path) -> None:
    path = saved(weights / "mine.safetensors", seed=9)
    made = NPNetMethod(checkpoint=str(path)).for_model(ENTRY)
    saved(path, seed=10)
    with pytest.raises(UserError, match="has changed since the run was planned"):
        made.noise(*session_and_noise())
    path.unlink()
    with pytest.raises(UserError, match=r"no checkpoint of digest [0-9a-f]{12} is known here"):
        made.noise(*session_and_noise())


def test_a_broken_checkpoint_is_reported(weights: Path) -> None:
    path = saved(weights / "mine.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"mine\.safetensors: truncated"):
        planned(f"{{use: npnet, checkpoint: {path}}}")


def test_planning_it_imports_no_torch(weights: Path) -> None:
    saved(weights / "own" / "shapes-sdxl.safetensors")
    code = (
        "import sys; from bench import suite; from bench.runner.plan import make_plan; "
        "s = suite.parse('models: [shapes-sdxl]\\nprompts: [shapes-pickapic]\\nsamplers: [ddim]\\n"
        "baseline: standard\\nmethods: [standard, npnet]\\nmetrics: [shapes-aesthetic]\\n', file='p'); "
        "print(len(make_plan(s).jobs), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["200", "False"], done.stderr
