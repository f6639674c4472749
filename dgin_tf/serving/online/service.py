"""Answers to requests, whatever protocol brings them: predict, rank, events, status.

`rest` and `grpc_service` translate between these answers and their protocols.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from dgin_tf.serving.export.signatures import SERVING_DEFAULT
from dgin_tf.serving.online.event_intake import EventIntake
from dgin_tf.serving.online.functions import RemoteError
from dgin_tf.serving.online.limits import Limits, RequestError
from dgin_tf.serving.online.loaded_version import LoadedVersion
from dgin_tf.serving.online.metrics import Metrics
from dgin_tf.serving.online.predict_requests import respond
from dgin_tf.serving.online.rank_requests import RankRequest, read_rank_request
from dgin_tf.serving.online.ranker import Ranking
from dgin_tf.serving.online.served_model import ServedModel
from dgin_tf.serving.online.workers import Workers
from dgin_tf.stores.state_store import StoreError
from dgin_tf.stores.values import DamagedValueError, StaleValueError

Result = TypeVar("Result")


class Service:
    """One model's answers, computed by a bounded number of threads.

    Args:
      model: its versions.
      limits: bounds.
      intake: takes events; None where none are taken.

    Attributes:
      metrics: of all answers.
      is_ready: false once the service is about to end.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: Limits = Limits(),  # noqa: B008  (it is frozen)
        intake: EventIntake | None = None,
    ):
        self.model, self.limits, self.intake = model, limits, intake
        self.metrics = Metrics(lambda: self.workers.pending, lambda: model.current.number)
        self.workers = Workers(
            limits.threads,
            limits.queue,
            functools.partial(self.metrics.observe_part, "queue"),
            lambda reason: self.metrics.rejected.labels(reason).inc(),
        )
        self.is_ready = True

    async def predict_json(self, version: LoadedVersion, body: bytes) -> dict[str, Any]:
        """Answer to a predict request of TF Serving's REST interface."""
        return await self._run(lambda: respond(version, body, self.limits))

    async def predict(
        self,
        version: LoadedVersion,
        signature: str,
        read: Callable[[Mapping[str, tf.TensorSpec]], Mapping[str, np.ndarray]],
        seconds: float,
    ) -> dict[str, np.ndarray]:
        """Outputs of a signature.

        Args:
          version: of the model.
          signature: its name; the default one where empty.
          read: gives the inputs for their specs.
          seconds: that the client waits.
        """
        name = signature or SERVING_DEFAULT

        def run() -> dict[str, np.ndarray]:
            return version.predict(name, read(version.specs(name)), self.limits)

        return await self._run(run, seconds)

    async def rank(
        self, body: bytes, find: Callable[[RankRequest], LoadedVersion]
    ) -> tuple[RankRequest, Ranking, LoadedVersion]:
        """The request of a body, its scores, and the version that gave them."""

        def run() -> tuple[RankRequest, Ranking, LoadedVersion]:
            request = read_rank_request(body, self.limits)
            version = find(request)
            ranking = request.answer(version.ranker)
            self.metrics.observe_report(ranking.report)
            return request, ranking, version

        return await self._run(run)

    async def add_events(self, lines: list[bytes]) -> list[str | None]:
        """Takes events; for each the reason why it cannot be applied, None for those that are durable.

        Raises:
          RequestError: the service takes no events, or too many are waiting.
        """
        if self.intake is None:
            raise RequestError(
                404,
                "this service takes no events; start it with a store for states or late events.",
            )
        with _as_statuses():
            reasons = await self.intake.add(lines, self.limits.request_seconds)
        refused = sum(reason is not None for reason in reasons)
        self.metrics.events.labels("applied").inc(len(reasons) - refused)
        self.metrics.events.labels("refused").inc(refused)
        return reasons

    def find_ranked(self, request: RankRequest) -> LoadedVersion:
        """The version that a rank request asks for; raises LookupError where it is not in memory."""
        return self.model.find(self.model.name, request.version, request.label)

    def close(self) -> None:
        """Ends threads."""
        self.is_ready = False
        self.workers.close()
        if self.intake is not None:
            self.intake.close()

    async def _run(self, function: Callable[[], Result], seconds: float | None = None) -> Result:
        limit = self.limits.request_seconds
        with _as_statuses():
            return await self.workers.run(
                function, limit if seconds is None else min(seconds, limit)
            )


@contextlib.contextmanager
def _as_statuses() -> Iterator[None]:
    """Turns what answering raises into a `RequestError` with the status that tells the client what to do."""
    try:
        yield
    except RequestError:
        raise
    except (KeyError, IndexError):
        raise  # a fault, although Python calls it a LookupError
    except LookupError as error:
        raise RequestError(404, str(error.args[0])) from error
    except (StoreError, RemoteError) as error:
        raise RequestError(503, str(error), 1) from error
    except (DamagedValueError, StaleValueError) as error:
        # No fault of the request: the next one for somebody else is answered.
        raise RequestError(503, str(error)) from error
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise RequestError(503, "not enough memory for this request; send fewer events.") from error
    except (ValueError, OverflowError) as error:  # a number that no tensor holds
        raise RequestError(400, str(error)) from error


@dataclasses.dataclass(frozen=True)
class ModelAddress:
    """Which version a request names, as TF Serving's addresses have it.

    Attributes:
      name: of the model.
      version: number, None where none is named.
      label: None where none is named.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def find(self, model: ServedModel) -> LoadedVersion:
        """The version; raises RequestError where it is not in memory."""
        try:
            return model.find(self.name, self.version, self.label)
        except LookupError as error:
            raise RequestError(404, str(error.args[0])) from error
