"""`read.py SERVERS TOPIC COUNT`: print so many events of the topic, as the SDK `cloudevents` of PyPI understands them."""

import json
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from kafka import KafkaConsumer

servers, topic, count = sys.argv[1:]
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=servers,
    group_id="sdk-python",
    auto_offset_reset="earliest",
    session_timeout_ms=6000,
    heartbeat_interval_ms=2000,
)
for _, record in zip(range(int(count)), consumer, strict=False):
    event = from_binary_event(KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value))
    read = {
        "specversion": event.get_specversion(),
        "id": event.get_id(),
        "source": event.get_source(),
        "type": event.get_type(),
        "time": event.get_time().isoformat(),
        "subject": event.get_subject(),
        "dataschema": event.get_dataschema(),
        "datacontenttype": event.get_datacontenttype(),
        "sequence": event.get_extension("sequence"),
        "traceparent": event.get_extension("traceparent"),
        "data": event.get_data(),
    }
    print(json.dumps(read), flush=True)
consumer.close()
