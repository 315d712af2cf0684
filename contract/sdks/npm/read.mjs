// `read.mjs SERVERS TOPIC COUNT`: print so many events of the topic, as the SDK `cloudevents` of npm understands them.

import { Kafka as Binding } from "cloudevents";
import { Kafka, logLevel } from "kafkajs";

const [servers, topic, count] = process.argv.slice(2);
const kafka = new Kafka({ brokers: servers.split(","), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: "sdk-javascript", sessionTimeout: 6000, heartbeatInterval: 2000 });
let left = Number(count);

await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await new Promise((resolve, reject) => {
  consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
  consumer.run({
    eachMessage: async ({ message }) => {
      if (left === 0) return;
      // kafkajs gives bytes, and the SDK expects texts.
      const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, value.toString()]));
      const event = Binding.toEvent({ headers, key: message.key.toString(), value: message.value.toString() });
      event.validate();
      const { specversion, id, source, type, time, subject, dataschema, datacontenttype, sequence, traceparent, data } = event;
      const read = { specversion, id, source, type, time, subject, dataschema, datacontenttype, sequence, traceparent, data };
      console.log(JSON.stringify(read));
      left -= 1;
      if (left === 0) resolve();
    },
  });
});
await consumer.disconnect();
