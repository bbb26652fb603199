from hypothesis import given
from hypothesis import strategies as st

from genprm.config import RunConfig
from genprm.runs import STAGES, Assumptions, plan_run


@given(st.sampled_from(STAGES), st.integers(1, 10_000))
def test_a_plan_ends_at_the_stage_asked_for(until: str, problems: int) -> None:
    plan = plan_run(RunConfig(), problems, until, Assumptions())
    assert [stage.stage for stage in plan] == list(STAGES[: STAGES.index(until) + 1])


@given(st.floats(0, 1), st.integers(1, 500))
def test_expected_calls_stay_under_the_bound(pass_rate: float, problems: int) -> None:
    for stage in plan_run(RunConfig(), problems, "rationales", Assumptions(pass_rate=pass_rate)):
        assert 0 <= stage.calls <= stage.calls_at_most


def test_rare_classes_cost_more_samples() -> None:
    even = plan_run(RunConfig(), 10, "solutions", Assumptions(pass_rate=0.5))[-1]
    rare = plan_run(RunConfig(), 10, "solutions", Assumptions(pass_rate=0.02))[-1]
    assert rare.calls > even.calls
