"""What the functions ask the simulated gateway's pages (payments/gateway/simulated_bank.py sends it)."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator


class Question(BaseModel):
    """What a function asks. This machine's other programs can ask too, so nothing is taken on trust."""

    model_config = ConfigDict(strict=True)


class Call(Question):
    """A call of the gateway's that the simulated gateway lets through."""

    kind: Literal["process", "capture", "void", "refund"]
    key: str
    payment_intent_id: str
    payment_id: str
    order_id: str
    amount_minor: Annotated[int, Field(ge=0)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    transaction_id: str
    refund_id: str | None
    return_url: str | None
    capture: bool
    waits: bool

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.kind == "refund" and not self.refund_id:
            raise ValueError("a refund has a refund_id")
        return self


class Look(Question):
    payment_intent_id: str


class Since(Question):
    since: AwareDatetime
