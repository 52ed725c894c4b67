"""All that is used of Optuna beyond its public interface. tests/search/test_optuna_fence.py says what broke.

Its storages' methods without underscore are public, and documented for those who write storages.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage


class FreeChoices(RDBStorage):
    """Lets a resumed run search other choices than before. Optuna lets ranges change, but refuses other choices."""

    def _set_trial_param_without_commit(
        self,
        session: Any,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None = None,
    ) -> None:
        super()._set_trial_param_without_commit(
            session, trial_id, param_name, param_value_internal, distribution, previous_distribution=distribution
        )
