"""VQAScore (Lin et al. 2024, 2404.01291) and GenEval 2's Soft-TIFA (Kamath et al. 2025, 2512.16853), read by Qwen3-VL.

`vqascore`: P("Yes") as the first token of the answer to VQAScore's question about the whole prompt. `soft_tifa`: of
each of the questions that a GenEval 2 prompt carries, the probability of its answer in any of the public spellings, and
their geometric mean, which is GenEval 2's score of a prompt; the arithmetic mean is in the detail. The public Soft-TIFA
is Qwen3-VL-8B's; other readers give other levels, and so do VQAScore's own CLIP-FlanT5 and this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench import kinship
from bench.backoff import Backoff
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part
from bench.metrics.real import Loaded, entry
from bench.models.base import check_folder, quiet_hub_libraries
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
COMMITS = {
    "2B": "89644892e4d85e24eaac8bacfd4f463576704203",
    "4B": "ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "8B": "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
}
BYTES = {"2B": 4_260_000_000, "4B": 8_880_000_000, "8B": 17_530_000_000}
"""About, in bf16 as published."""
BATCH = 8
QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'
ONE_WORD = "{question} Answer in one word."
KEY = "vqa_list"
"""What prompts of GenEval 2 carry: pairs of question and answer."""
BEFORE, AFTER = "<|im_start|>user\n<|vision_start|>", "<|im_end|>\n<|im_start|>assistant\n"
IMAGE, BEHIND = "<|image_pad|>", "<|vision_end|>"
YES = ("Yes", "yes", " yes", " Yes")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Reader(Loaded):
    """A Qwen3-VL that is asked about images; a subclass says what."""

    shares = tuple(f"Qwen3-VL-{size}-Instruct" for size in COMMITS)

    def load(self, checkpoint: Checkpoint) -> None:
        import torch
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration

        quiet_hub_libraries()
        self.backoff = Backoff(BATCH)
        name = checkpoint.parts[0].name
        folder = checkpoint.path(name)
        check_folder(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.prepare = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        given: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32}
        self.backbone = self.shared(
            checkpoint, name, "qwen3-vl", lambda: Qwen3VLForConditionalGeneration.from_pretrained(folder, **given)
        )
        self.network = self.backbone.module

    def first_tokens(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> torch.Tensor:
        """(B, words) probabilities of the first token of the answer to a question about each image.

        Shorter rows are padded behind, which no token before sees.
        """
        import torch

        seen = self.prepare(images=list(images), return_tensors="pt")
        patches = seen.image_grid_thw.prod(-1) // self.prepare.merge_size**2
        rows = [self._row(q, int(n)) for q, n in zip(questions, patches, strict=True)]
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            ids[k, : len(row)], mask[k, : len(row)] = torch.tensor(row), 1
        kinds = (ids == self.network.config.image_token_id) & (mask == 1)
        hidden = self.network.model(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            mm_token_type_ids=kinds.int().to(self.device),
            pixel_values=self.placed(seen.pixel_values),
            image_grid_thw=seen.image_grid_thw.to(self.device),
        ).last_hidden_state
        last = hidden[torch.arange(len(rows)), mask.sum(-1) - 1]
        found: torch.Tensor = self.network.lm_head(last).float().softmax(-1).double().cpu()
        return found

    def _row(self, question: str, patches: int) -> list[int]:
        """One turn of a user: an image and a question, whose text may hold no control token."""
        before, behind, after = (self._ids(text) for text in (BEFORE, BEHIND, AFTER))
        asked: list[int] = self.tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids
        return [*before, *[self.network.config.image_token_id] * patches, *behind, *asked, *after]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found


class VQAScore(Reader):
    """P("Yes")."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        found: list[Value] = []
        yes = self._ids("Yes")[0]

        def judge(part: Sequence[int]) -> None:
            asked = [QUESTION.format(text=prompts[i].text) for i in part]
            found.extend(Value(float(p)) for p in self.first_tokens([images[i] for i in part], asked)[:, yes])

        self.in_parts(len(images), judge)
        return found


class SoftTIFA(Reader):
    """The geometric mean of the probabilities of the right answers."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        asked = [list((p.metadata or {}).get(KEY, ())) for p in prompts]
        rows = [(i, str(question), str(answer)) for i, some in enumerate(asked) for question, answer in some]
        right: list[float] = []

        def judge(part: Sequence[int]) -> None:
            some = [rows[k] for k in part]
            said = self.first_tokens([images[i] for i, _, _ in some], [ONE_WORD.format(question=q) for _, q, _ in some])
            for p, (_, question, answer) in zip(said, some, strict=True):
                # Two spellings may begin with one token, which then counts twice: so does the public code.
                right.append(float(sum(p[self._ids(text)[0]] for text in spellings(question, answer))))

        self.in_parts(len(rows), judge)
        found = []
        for i, prompt in enumerate(prompts):
            own = [p for p, (k, _, _) in zip(right, rows, strict=True) if k == i]
            if not own:
                found.append(Value.failed("its prompt carries no questions of GenEval 2's kind"))
                continue
            mean = math.exp(sum(math.log(p) for p in own) / len(own)) if min(own) > 0 else 0.0
            skills = list((prompt.metadata or {}).get("skills", ()))
            found.append(Value(mean, {"answers": own, "arithmetic": sum(own) / len(own), "skills": skills}))
        return found


def spellings(question: str, answer: str) -> tuple[str, ...]:
    """The answers that count as right: of "How many" the number as a word and as a digit, else yes."""
    if not question.startswith("How many"):
        return YES
    digit = str(NUMBERS.index(answer) + 1) if answer in NUMBERS else "other"
    return answer, answer.capitalize(), f" {answer}", f" {answer.capitalize()}", digit, f" {digit}"


def _checkpoint(metric: str, size: str) -> Checkpoint:
    names = {s: f"Qwen3-VL-{s}-Instruct" for s in COMMITS}
    weights = ("model.safetensors",)
    parts = {
        s: Part(name, f"Qwen/{name}", COMMITS[s], weights=weights, about_bytes=BYTES[s]) for s, name in names.items()
    }
    others = tuple((part,) for s, part in parts.items() if s != size)
    return Checkpoint(metric, (parts[size],), instead=others)


_VQA = MetricEntry(
    "vqascore",
    title="VQAScore",
    unit='P("Yes")',
    load=None,
    identify=str,
    scale="0 to 1",
    bounds=(0, 1),
    about="Qwen3-VL-2B's first token of the answer to VQAScore's question about the prompt (2404.01291)",
    license="Apache-2.0",
    blind_to="quality and style; what the reader does not see or count, small things and larger numbers above all",
    unfit_for="methods that are steered by a Qwen3-VL, or whose prompts were rewritten by one",
    made_of=(kinship.QWEN3_VL,),
)
_TIFA = MetricEntry(
    "soft_tifa",
    title="Soft-TIFA",
    unit="geometric mean of probabilities",
    load=None,
    identify=str,
    scale="0 to 1; GenEval 2 prints it times 100",
    bounds=(0, 1),
    needs_metadata=True,
    metadata_key=KEY,
    about="GenEval 2's questions answered by Qwen3-VL-8B, the geometric mean for each prompt (2512.16853)",
    license="Apache-2.0",
    blind_to="quality and style; what no question asks; what the reader does not see or count",
    unfit_for="methods that are steered by a Qwen3-VL, or whose prompts were rewritten by one",
    made_of=(kinship.QWEN3_VL,),
)
add_plugin("metrics", "vqascore", entry(_VQA, VQAScore, _checkpoint("vqascore", "2B"), version=VERSION), "bench")
add_plugin("metrics", "soft_tifa", entry(_TIFA, SoftTIFA, _checkpoint("soft_tifa", "8B"), version=VERSION), "bench")
