// Reads events with the models that modelina makes, writes each again, and prints its type when nothing was lost.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { argv } from "node:process";
import { Payment } from "./events/Payment";
import { PaymentWithRefund } from "./events/PaymentWithRefund";
import { RequestRefused } from "./events/RequestRefused";

function again(type: string, value: string): string {
  switch (type) {
    case "payment.refunded":
    case "payment.refund_failed":
      return PaymentWithRefund.unmarshal(value).marshal();
    case "payment.refused":
      return RequestRefused.unmarshal(value).marshal();
    default:
      return Payment.unmarshal(value).marshal();
  }
}

for (const line of readFileSync(argv[2] ?? "", "utf8").trimEnd().split("\n")) {
  const { type, value } = JSON.parse(line);
  assert.deepEqual(JSON.parse(again(type, JSON.stringify(value))), value);
  console.log(type);
}
