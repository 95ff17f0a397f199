"""A worker of the standard library alone: its score is an image's width, and its prompts say what it does wrong."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import sys
import time


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def wrong(prompt: str, number: int) -> None:
    if prompt == os.environ.get("TEST_WORKER_DIES_AT") or prompt == "die":
        print("the last words", file=sys.stderr)
        os._exit(7)
    if prompt == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt == "hang":
        time.sleep(3600)
    if prompt == "garbage":
        say("<html>")
    if prompt == "another":
        say(json.dumps({"protocol": 1, "id": number + 1, "scores": [0.5]}))
    if prompt == "endless":
        say("1" * 2_000_000)
    if prompt == "shout":
        print("Loading model ...", file=sys.stderr)


def score(data: str, prompt: str) -> float | str | bool | None:
    if prompt.startswith("length"):
        return float(len(prompt))
    (width,) = struct.unpack(">I", base64.b64decode(data)[16:20])
    special = {"nan": float("nan"), "null": None, "text": "high", "bool": True}
    return special.get(prompt, width / 100)


def main() -> int:
    if place := os.environ.get("TEST_WORKER_STARTS"):
        with open(place, "a") as file:
            file.write("*")
    how = os.environ.get("TEST_WORKER_LOADS")
    if how == "exit":
        print("no such module", file=sys.stderr)
        return 3
    if how == "refuse":
        say(json.dumps({"protocol": 1, "error": "OSError: no weights"}))
        return 1
    say(json.dumps({"protocol": 0 if how == "old" else 1, "ready": "test 1"}))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = {"protocol": 1, "id": request["id"]}
        for prompt in request["prompts"]:
            wrong(prompt, request["id"])
        found = [score(*one) for one in zip(request["images"], request["prompts"], strict=True)]
        if "error" in request["prompts"]:
            answer["error"] = "ValueError: it does not like this one;\nsecond line"
        elif "short" in request["prompts"]:
            answer["scores"] = None
        else:
            answer["scores"] = found * 2 if "many" in request["prompts"] else found
        say(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
