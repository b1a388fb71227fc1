"""Scores that Keras lacks: exact entities, and answers to questions on a text."""

from bert4keras3.metrics.entities import SpanF1, cluener_entities, entity_scores
from bert4keras3.metrics.reading_comprehension import (
    cmrc2018_exact_match,
    cmrc2018_f1,
    cmrc2018_scores,
)

__all__ = [
    "SpanF1",
    "cluener_entities",
    "cmrc2018_exact_match",
    "cmrc2018_f1",
    "cmrc2018_scores",
    "entity_scores",
]
