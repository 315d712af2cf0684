"""The yardstick: the payment service that one would write without our guarantees. FastAPI, SQLAlchemy, asyncpg, aiokafka.

It has no idempotency key, no outbox, no lease and no history. It commits three times (taken, captured, told) and sends the event
after the second commit, so a kill in between loses the event. `uvicorn bench.peer:app` serves it; `handler` is the same app
behind Mangum.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from mangum import Mangum
from pydantic import BaseModel, Field
from sqlalchemy import JSON, BigInteger, Text, Uuid
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):  # type: ignore[misc]  # the test environment has no SQLAlchemy
    pass


class Payment(Base):
    """A payment. Amounts are in the currency's minor unit."""

    __tablename__ = "peer_payments"

    payment_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    order_id: Mapped[str] = mapped_column(Text, index=True)
    customer_id: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    payment_method: Mapped[str] = mapped_column(Text)
    payment_token: Mapped[str | None] = mapped_column(Text)
    transaction_id: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    # Named apart from DeclarativeBase.metadata.
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    told: Mapped[bool]
    created_at: Mapped[str] = mapped_column(Text)


class Body(BaseModel):
    order_id: Annotated[str, Field(min_length=1, max_length=64)]
    amount: Annotated[int, Field(ge=1, le=999_999_999_999)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    payment_method: Literal["credit_card", "debit_card", "paypal", "stripe"]
    payment_token: str | None = None
    customer_id: str | None = None
    description: str | None = None
    metadata: dict[str, str] = {}


POOL_SIZE = int(os.environ.get("PEER_POOL_SIZE", "16"))
engine = create_async_engine(os.environ["PEER_DATABASE_URL"], pool_size=POOL_SIZE, max_overflow=0)
session = async_sessionmaker(engine, expire_on_commit=False)
producers: list[AIOKafkaProducer] = []


async def producer() -> AIOKafkaProducer:
    if not producers:
        one = AIOKafkaProducer(bootstrap_servers=os.environ["PEER_BROKERS"], acks="all", linger_ms=0)
        await one.start()
        producers.append(one)
    return producers[0]


async def make_table() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await make_table()
    await producer()
    yield
    await producers.pop().stop()


app = FastAPI(lifespan=lifespan)


@app.post("/payments", status_code=201)
async def pay(body: Body) -> dict[str, Any]:
    payment = Payment(
        payment_id=uuid4(),
        order_id=body.order_id,
        customer_id=body.customer_id,
        status="PROCESSING",
        amount_minor=body.amount,
        currency=body.currency,
        payment_method=body.payment_method,
        payment_token=body.payment_token,
        transaction_id=None,
        description=body.description,
        details=body.metadata,
        told=False,
        created_at=datetime.now(UTC).isoformat(),
    )
    async with session() as database:
        database.add(payment)
        await database.commit()
        payment.transaction_id = f"txn_{payment.payment_id.hex[:24]}"  # the gateway answers at once
        payment.status = "CAPTURED"
        await database.commit()
        answer = body.model_dump(exclude={"payment_token"}) | {
            "payment_id": str(payment.payment_id),
            "status": payment.status,
            "transaction_id": payment.transaction_id,
            "created_at": payment.created_at,
        }
        topic, key = os.environ["PEER_TOPIC"], str(payment.payment_id).encode()
        await (await producer()).send_and_wait(topic, json.dumps(answer).encode(), key)
        payment.told = True
        await database.commit()
    return answer


handler = Mangum(app, lifespan="off")
