"""`POST /v1/feedback`: body → opinion, what was taken → body (openai-surface §11)."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from server.feedback import Opinion, Taken
from server.wire.fields import FEEDBACK
from server.wire.reading import Wire, fault, read_body

METRICS = ("thumb", "rating", "correction")


class FeedbackRequest(Wire):
    id: Annotated[str, Field(min_length=1, max_length=128)] = Field(description="of any answer")
    metric: Annotated[str, Field(max_length=64)] = Field(description="thumb, rating or correction")
    value: bool | float | Annotated[str, Field(min_length=1, max_length=100_000)] = Field(
        description="true or false; 0 to 1; the answer that should have been given"
    )
    choice: Annotated[int, Field(ge=0, le=127)] = 0
    comment: Annotated[str, Field(max_length=4_000)] | None = None

    @model_validator(mode="after")
    def _measures_what_it_says(self) -> Self:
        if self.metric not in METRICS:
            raise fault(f"There are the metrics {', '.join(METRICS)}", at="metric")
        fits = {
            "thumb": isinstance(self.value, bool),
            "rating": isinstance(self.value, float) and 0 <= self.value <= 1,
            "correction": isinstance(self.value, str),
        }
        if not fits[self.metric]:
            wanted = {"thumb": "true or false", "rating": "a number from 0 to 1", "correction": "a text"}
            raise fault(f"{self.metric} takes {wanted[self.metric]}", at="value")
        return self


def read_feedback(body: bytes, unknown_fields: str = "refuse") -> Opinion:
    """Raises InvalidValue, MissingParameter or UnsupportedParameter with `param`."""
    asked, _ = read_body(body, FeedbackRequest, FEEDBACK, unknown_fields)
    return Opinion(
        target=asked.id,
        metric=asked.metric,
        value=asked.value,
        choice=asked.choice,
        comment=asked.comment,
    )


def feedback_object(taken: Taken) -> dict[str, Any]:
    return {
        "id": taken.id,
        "object": "feedback",
        "created_at": taken.created_at,
        "target": taken.opinion.target,
        "choice": taken.opinion.choice,
        "metric": taken.opinion.metric,
        "value": taken.opinion.value,
        "replaced": taken.replaced,
        "late": taken.late,
    }
