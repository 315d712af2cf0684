// A shop with the client that openapi-generator makes for TypeScript (typescript-fetch). It prints the name of each step when its
// answer was right.
import assert from "node:assert/strict";
import { argv } from "node:process";
import { Configuration, LookUpsApi, PaymentsApi, RefundsApi, ResponseError } from "./payments";
import { MessageFromJSON, ProblemFromJSON, ProblemOrMessageFromJSON } from "./payments";

const [url = "", token = ""] = argv.slice(2);
const BIG = 5_000_000_000; // more than 32 bits hold

const configured = (basePath = url, accessToken = token) => new Configuration({ basePath, accessToken });
const payments = new PaymentsApi(configured());
const lookUps = new LookUpsApi(configured());

function pay(orderId: string, amount: number, paymentToken: string) {
  const processRequest = { orderId, amount, currency: "USD", paymentMethod: "credit_card", paymentToken } as const;
  return payments.processPaymentRaw({ idempotencyKey: `pay-${orderId}`, processRequest });
}

async function refused(call: Promise<unknown>): Promise<Response> {
  const error = await call.then(() => assert.fail("it was not refused"), (reason) => reason);
  assert(error instanceof ResponseError, error);
  return error.response;
}

async function check(step: string, holds: () => Promise<void>) {
  await holds();
  console.log(step);
}

async function main() {
  const paid = await (await pay("big", BIG, "tok_ok")).value();
  await check("pays", async () => {
    assert.equal(paid.status, "CAPTURED");
    assert.equal(paid.amountCaptured, BIG);
  });

  await check("replays", async () => {
    const again = await pay("big", BIG, "tok_ok");
    assert.equal((await again.value()).paymentId, paid.paymentId);
    assert.equal(again.raw.headers.get("idempotent-replayed"), "true");
  });

  await check("reads back", async () => {
    const found = await lookUps.getPayment({ paymentId: paid.paymentId });
    assert.equal(found.amount, BIG);
  });

  await check("is declined", async () => {
    const answer = await refused(pay("declined", 1999, "tok_card_declined"));
    assert.equal(answer.status, 402);
    const problem = ProblemFromJSON(await answer.json());
    assert.equal(problem.code, "payment_declined");
    assert.equal(problem.declineCode, "card_declined");
  });

  await check("refunds", async () => {
    const refundRequest = { paymentId: paid.paymentId, amount: 2_000_000_000 };
    const refund = await new RefundsApi(configured()).refundPayment({ idempotencyKey: "return-1", refundRequest });
    assert.equal(refund.status, "SUCCEEDED");
    assert.equal(refund.paymentStatus, "PARTIALLY_REFUNDED");
    assert.equal(refund.amountRefunded, 2_000_000_000);
  });

  await check("lists", async () => {
    for (const n of [1, 2, 3, 4, 5]) await pay(`small-${n}`, 100, "tok_ok");
    const seen: string[] = [];
    let pages = 0;
    for (let cursor: string | undefined, hasMore = true; hasMore; pages++) {
      const page = await lookUps.listPayments({ limit: 3, cursor });
      seen.push(...page.data.map((payment) => payment.orderId));
      hasMore = page.hasMore;
      cursor = page.nextCursor ?? undefined;
    }
    assert.equal(pages, 3);
    assert.deepEqual(seen.sort(), ["big", "declined", "small-1", "small-2", "small-3", "small-4", "small-5"]);
  });

  await check("meets 401", async () => {
    const answer = await refused(new LookUpsApi(configured(url, "expired")).getPayment({ paymentId: paid.paymentId }));
    assert.equal(answer.status, 401);
    assert.equal(ProblemOrMessageFromJSON(await answer.json()).message, "Unauthorized");
  });

  await check("meets 429", async () => {
    const answer = await refused(new LookUpsApi(configured(`${url}/throttled`)).getPayment({ paymentId: paid.paymentId }));
    assert.equal(answer.status, 429);
    assert.equal(MessageFromJSON(await answer.json()).message, "Too Many Requests");
  });

  await check("meets unknown values", async () => {
    const newer = new LookUpsApi(configured(`${url}/newer`));
    const found = await newer.getOrder({ orderId: "declined" });
    assert.deepEqual([found.status, found.declineCode, found.amount], ["SETTLING", "wallet_empty", 1999]);
    const answer = await refused(newer.getOrder({ orderId: "missing" }));
    assert.equal(ProblemOrMessageFromJSON(await answer.json()).code, "order_archived");
  });
}

void main();
