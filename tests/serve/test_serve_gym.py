"""What NeMo-Gym asks beside `/verify`; bodies as nemo-gym 0.7 sends them."""

from __future__ import annotations

import pytest
from conftest import Serving

from genprm import ScriptedReward


def reward(problem: str, steps: object, index: int) -> float:
    return 0.875


async def test_sessions_are_begun_and_ended_in_both_forms(serving: Serving) -> None:
    seed = {
        "resources_session_id": "s1",
        "episode_id": {"group": "g", "index": 0},
        "task_id": {"name": "t"},
        "task_data": {"question": "q"},
    }
    close = {"resources_session_id": "s1", "episode_id": {"group": "g", "index": 0}}
    async with serving(ScriptedReward(reward)) as live:
        for path, body in (("/seed_session", seed), ("/close_session", close), ("/close_session", close)):
            status, answer, _ = await live.post(path, body)
            assert (status, answer) == (200, {"resources_session_id": "s1"})
        assert (await live.post("/seed_session", {"verifier_metadata": {}}))[:2] == (200, {})
        assert await live.get("/reverify_mode") == (200, '"stateless"')


async def test_totals_leave_out_what_is_masked(serving: Serving) -> None:
    def row(task: int, rollout: int, value: float, **more: object) -> dict[str, object]:
        index = {"_ng_task_index": task, "_ng_rollout_index": rollout}
        return {**index, "reward": value, "mask_sample": False, "failure_kind": None, **more}

    lost = row(1, 1, 0.0, mask_sample=True, failure_kind="genprm:engine_failed")
    rows = [row(0, 0, 1.0, turns=2), row(0, 1, 0.5, turns=4), row(1, 0, 0.25), lost]
    async with serving(ScriptedReward(reward)) as live:
        status, answer, _ = await live.post("/aggregate_metrics", {"verify_responses": rows})
        _, nothing, _ = await live.post("/aggregate_metrics", {"verify_responses": []})
        _, masked, _ = await live.post("/aggregate_metrics", {"verify_responses": [lost]})
        assert (await live.post("/aggregate_metrics", {}))[0] == 422
    assert status == 200
    overall = answer["agent_metrics"]
    assert overall["mean/reward"] == pytest.approx((1.0 + 0.5 + 0.25) / 3)
    assert (overall["min/reward"], overall["median/reward"], overall["max/reward"]) == (0.25, 0.5, 1.0)
    assert (overall["num_rollouts"], overall["masked_num_rollouts"]) == (4, 1)
    assert overall["mean/turns"] == 3 and not any("mask_sample" in name for name in overall)
    first, second = answer["group_level_metrics"]
    assert (first["_ng_task_index"], first["mean/reward"], first["std/reward"]) == (
        0,
        0.75,
        pytest.approx(0.5**0.5 / 2),
    )
    assert (second["mean/reward"], second["masked_num_rollouts"]) == (0.25, 1)
    assert set(answer["key_metrics"]) == {"mean/reward", "mean/turns"}
    assert [one["_ng_rollout_index"] for one in answer["repeat_level_metrics"]] == [0, 1]
    assert nothing["agent_metrics"] == {} and nothing["group_level_metrics"] == []
    assert masked["key_metrics"] == {} and masked["agent_metrics"]["masked_num_rollouts"] == 1
