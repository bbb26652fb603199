"""Where a scorer's verdicts come from: a reward server, or a reward in this process. Used on one event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genprm.rewards import StepReward
from genprm.serve.client import AsyncRewardClient
from genprm.serve.service import RewardService


@dataclass(frozen=True, slots=True)
class Judged:
    """One reward per step, None where it is unknown; and why the solution has no score, if it has none."""

    rewards: tuple[float | None, ...]
    unknown: str | None = None
    reason: str | None = None


class ServerBackend:
    """A running `genprm serve`. It is asked for the given steps, so that they are the same on both sides."""

    def __init__(self, url: str, api_key: str | None, deadline: float) -> None:
        self._url, self._api_key, self._deadline = url, api_key, deadline
        self.renew()

    def renew(self) -> None:
        """Forget connections that belong to another process or loop."""
        self._client = AsyncRewardClient(self._url, api_key=self._api_key, timeout=self._deadline)

    async def judge(self, problem: str, steps: Sequence[str]) -> Judged:
        """See `AsyncRewardClient.verify` for what it raises."""
        found = await self._client.verify(problem, steps, rationales=False)
        return Judged(found.rewards, found.unknown, found.reason)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def __getstate__(self) -> dict[str, object]:
        return {"_url": self._url, "_api_key": self._api_key, "_deadline": self._deadline}


class LocalBackend:
    """A reward in this process, behind a service: equal questions share one verification, and deadlines hold."""

    def __init__(self, reward: StepReward, concurrency: int, deadline: float) -> None:
        self._reward, self._concurrency, self._deadline = reward, concurrency, deadline
        self.renew()

    def renew(self) -> None:
        """Begin anew, on the loop of the next call."""
        self._service = RewardService(
            self._reward,
            in_work=self._concurrency,
            queue=self._concurrency,
            deadline=self._deadline,
            linger=0,
        )

    async def judge(self, problem: str, steps: Sequence[str]) -> Judged:
        """What the reward says, or what it has said by the deadline."""
        answer = await self._service.verify(problem, steps)
        rewards = tuple(verdict.reward for verdict in answer.verification.verdicts)
        unknown = answer.unknown
        return Judged(rewards) if unknown is None else Judged(rewards, unknown.kind, unknown.detail)

    async def aclose(self) -> None:
        """Cancel what still runs."""
        await self._service.aclose()

    def __getstate__(self) -> dict[str, object]:
        return {"_reward": self._reward, "_concurrency": self._concurrency, "_deadline": self._deadline}
