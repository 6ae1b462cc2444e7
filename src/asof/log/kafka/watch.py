"""Checks whether a consumer's topic was replaced, or has more partitions."""

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
"""Interval of these checks."""

SAME_S = 0.05
"""How long a check stays valid: a client notices a new topic of the same name later than this."""


class TopicWatch:
    """Checks one topic regularly.

    Args:
        topic: its first description.
        refresh: makes the consumer's client refresh the metadata of the topic with this full name, so that its group
            assigns new partitions.

    Attributes:
        topic: its last description.
        silence: the error of the last check, if the brokers did not respond.
    """

    def __init__(self, broker: Broker, topic: KafkaTopic, *, refresh: Callable[[str], None]) -> None:
        self._broker, self.topic, self._refresh = broker, topic, refresh
        self._question: tuple[float, Future[Any]] | None = None
        self._same_at = float("-inf")
        self.silence: LogUnreachable | None = None

    def check_now(self) -> None:
        """Check now, ignoring the cache.

        Raises:
            TopicReplaced: the topic was deleted or recreated.
        """
        self._same_at = float("-inf")
        self._check(self._ask())

    def look(self) -> None:
        """Check regularly, without waiting for the result."""
        now = time.monotonic()
        if self._question is not None and self._question[1].done():
            requested_at, future = self._question
            self._question = None
            if self._check(future):
                self._same_at = max(self._same_at, requested_at)
        elif self._question is None and now - self._same_at > LOOK_EVERY_S:
            self._question = (now, self._ask())

    def is_same(self) -> bool:
        """Whether the records read are of the known topic: a client switches silently to a new one of the same name."""
        now = time.monotonic()
        if now - self._same_at > SAME_S:
            if not self._check(self._ask()):
                return False
            self._same_at = now
        return True

    def _ask(self) -> Future[Any]:
        pending = TopicCollection([self.topic.full_name])
        return self._broker.admin.describe_topics(pending, request_timeout=self._broker.timeout_s)[self.topic.full_name]

    def _check(self, future: Future[Any]) -> bool:
        """Whether the result confirms the topic; False without a result.

        Raises:
            TopicReplaced: the topic was deleted or recreated.
        """
        try:
            found = self._broker.ask(future, f"describe topic {self.topic.name!r}", topic=self.topic.name)
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
            # Refresh the client's metadata, so that its group assigns the new partitions.
            try:
                self._refresh(self.topic.full_name)
            except KafkaException as error:
                self.silence = self._broker.unreachable(f"describe topic {self.topic.name!r}", error.args[0])
                return False
            self.topic = self.topic.grown(len(found.partitions))
        return True
