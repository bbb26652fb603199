"""One request in each dialect, and which numbers of its answer are learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genprm.serve.dialects import DIALECTS

QUESTION = "What is 2 + 3 + 4?"
SOLUTION = "Step 1: 2 + 3 = 5.\n\nStep 2: 5 + 4 = 8."
CHATML = (
    "<|im_start|>system\nSolve.<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
)


def openrlhf(solution: str) -> Any:
    prompt = CHATML.format(question=QUESTION)
    return {
        "query": [f"{prompt}{solution}<|im_end|>\n<|endoftext|>"],
        "prompts": [prompt],
        "labels": ["9"],
    }


def slime(solution: str) -> Any:
    chat = [{"role": "system", "content": "Solve."}, {"role": "user", "content": QUESTION}]
    return {"prompt": chat, "response": f"{solution}<|im_end|>", "label": "9"}


def nemo_gym(solution: str) -> Any:
    content = [{"type": "output_text", "text": solution, "annotations": []}]
    return {
        "responses_create_params": {
            "input": [
                {"role": "developer", "content": "Solve."},
                {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
            ]
        },
        "response": {
            "id": "r",
            "object": "response",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "role": "assistant", "content": content},
            ],
        },
        "expected_answer": "9",
    }


def pooling(solution: str) -> Any:
    steps = "".join(f"{step}<extra_0>" for step in solution.split("\n\n"))
    text = f"{CHATML.format(question=QUESTION)}{steps}<|im_end|><|endoftext|>"
    return {"model": "prm", "input": text, "task": "token_classify"}


def classify(solution: str) -> Any:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": solution}]
    return {"model": "prm", "messages": messages}


BODIES: dict[str, Callable[[str], Any]] = {
    "openrlhf": openrlhf,
    "slime": slime,
    "nemo_gym": nemo_gym,
    "pooling": pooling,
    "classify": classify,
}
PATHS = {dialect.name: dialect.path for dialect in DIALECTS}


def learned(name: str, status: int, answer: Any) -> list[float]:
    """The numbers of an answer that its trainer would learn from."""
    if status != 200:
        return []
    if name == "openrlhf":
        assert answer["rewards"] == answer["scores"]
        lost = answer["extra_logs"]["genprm_unknown"]
        return [number for number, gone in zip(answer["rewards"], lost, strict=True) if not gone]
    if name == "slime":
        known = [number for number in answer["step_rewards"] if number is not None]
        return [] if answer["reward"] is None else [answer["reward"], *known]
    if name == "nemo_gym":
        return [] if answer["mask_sample"] else [answer["reward"]]
    if name == "pooling":
        return [pair[1] for row in answer["data"] for pair in row["data"]]
    return [row["probs"][1] for row in answer["data"]]
