// Stripe's own package signs: reads [{secret, at_s, body}, …], and writes the header Stripe-Signature of each.
// With a header it verifies: reads [{secret, body, header}, …], and says of each whether it is genuine.
import { readFileSync } from "node:fs";
import Stripe from "stripe";

const { webhooks } = new Stripe("sk_test_none");
const genuine = ({ secret, body, header }) => {
  try {
    return webhooks.signature.verifyHeader(body, header, secret, 300);
  } catch {
    return false;
  }
};
const signed = ({ secret, at_s, body }) => webhooks.generateTestHeaderString({ payload: body, secret, timestamp: at_s });
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map((one) => (one.header ? genuine(one) : signed(one)))));
