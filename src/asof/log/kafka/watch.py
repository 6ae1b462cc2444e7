"""Whether a consumer's topic is still the same one, and how many partitions it has by now."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicCollection

from asof.errors import LogError
from asof.log.kafka.cluster import Broker
from asof.log.kafka.topic import KafkaTopic
from asof.log.protocol import LogUnreachable, TopicReplaced, UnknownTopic

LOOK_EVERY_S = 1.0
"""How often a member asks whether its topic is still the same one, and has grown."""

SAME_S = 0.05
"""How long the topic counts as the same after it was asked for: a client finds a new one of the same name later."""


class TopicWatch:
    """Looks at one topic now and then.

    Args:
        topic: as it was found at first.
        refresh: makes the consumer's client look at the topic of this full name, so that its group shares new
            partitions.

    Attributes:
        topic: as it was found last.
        silence: the error of the last look, where the brokers did not respond.
    """

    def __init__(self, broker: Broker, topic: KafkaTopic, *, refresh: Callable[[str], None]) -> None:
        self._broker, self.topic, self._refresh = broker, topic, refresh
        self._question: tuple[float, Future[Any]] | None = None
        self._same_at = float("-inf")
        self.silence: LogUnreachable | None = None

    def check_now(self) -> None:
        """Look at once, and count nothing that was known.

        Raises:
            TopicReplaced: it was deleted, or made again.
        """
        self._same_at = float("-inf")
        self._check(self._ask())

    def look(self) -> None:
        """Ask now and then whether the topic is still the same, without waiting for the result."""
        now = time.monotonic()
        if self._question is not None and self._question[1].done():
            asked_at, future = self._question
            self._question = None
            if self._check(future):
                self._same_at = max(self._same_at, asked_at)
        elif self._question is None and now - self._same_at > LOOK_EVERY_S:
            self._question = (now, self._ask())

    def is_same(self) -> bool:
        """Whether what was read is of the known topic: a client goes over to a new one of the same name silently."""
        now = time.monotonic()
        if now - self._same_at > SAME_S:
            if not self._check(self._ask()):
                return False
            self._same_at = now
        return True

    def _ask(self) -> Future[Any]:
        asked = TopicCollection([self.topic.full_name])
        return self._broker.admin.describe_topics(asked, request_timeout=self._broker.timeout_s)[self.topic.full_name]

    def _check(self, future: Future[Any]) -> bool:
        """Whether the result says that the topic is the same; False where there is none.

        Raises:
            TopicReplaced: it was deleted, or made again.
        """
        try:
            found = self._broker.ask(future, f"look at topic {self.topic.name!r}", topic=self.topic.name)
        except LogUnreachable as error:
            self.silence = error
            return False
        except LogError as error:
            if isinstance(error, UnknownTopic):
                raise TopicReplaced(self.topic.name, known=self.topic.id, found=None) from error
            raise
        self.silence = None
        if str(found.topic_id) != self.topic.id:
            raise TopicReplaced(self.topic.name, known=self.topic.id, found=str(found.topic_id))
        if len(found.partitions) != self.topic.partitions:
            # Makes the client look at the topic, and its group share the new partitions.
            try:
                self._refresh(self.topic.full_name)
            except KafkaException as error:
                self.silence = self._broker.unreachable(f"look at topic {self.topic.name!r}", error.args[0])
                return False
            self.topic = self.topic.grown(len(found.partitions))
        return True
