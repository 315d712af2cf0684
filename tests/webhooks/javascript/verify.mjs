// Standard Webhooks verifies: reads [{secret, headers, body}, …], and says of each what is in it or why it is not genuine.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const genuine = ({ secret, headers, body }) => {
  try {
    return new Webhook(secret).verify(body, headers);
  } catch (error) {
    return String(error.message);
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(genuine)));
