import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.extensions.DistributedTracingExtension;
import io.cloudevents.core.provider.ExtensionProvider;
import io.cloudevents.kafka.CloudEventDeserializer;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** `Read SERVERS TOPIC COUNT`: print so many events of the topic, as the SDK io.cloudevents understands them. */
public final class Read {
  public static void main(String[] arguments) throws Exception {
    Properties options = new Properties();
    options.put("bootstrap.servers", arguments[0]);
    options.put("group.id", "sdk-java");
    options.put("auto.offset.reset", "earliest");
    options.put("session.timeout.ms", "6000");
    options.put("heartbeat.interval.ms", "2000");
    ExtensionProvider.getInstance().registerExtension(DistributedTracingExtension.class, DistributedTracingExtension::new);
    ObjectMapper json = new ObjectMapper();
    int left = Integer.parseInt(arguments[2]);
    try (KafkaConsumer<String, CloudEvent> consumer =
        new KafkaConsumer<>(options, new StringDeserializer(), new CloudEventDeserializer())) {
      consumer.subscribe(List.of(arguments[1]));
      while (left > 0) {
        for (ConsumerRecord<String, CloudEvent> record : consumer.poll(Duration.ofMillis(200))) {
          System.out.println(json.writeValueAsString(read(record.value(), json)));
          left -= 1;
        }
      }
    }
  }

  private static Map<String, Object> read(CloudEvent event, ObjectMapper json) throws Exception {
    DistributedTracingExtension tracing =
        ExtensionProvider.getInstance().parseExtension(DistributedTracingExtension.class, event);
    Map<String, Object> read = new LinkedHashMap<>();
    read.put("specversion", event.getSpecVersion().toString());
    read.put("id", event.getId());
    read.put("source", event.getSource().toString());
    read.put("type", event.getType());
    read.put("time", event.getTime().toString());
    read.put("subject", event.getSubject());
    read.put("dataschema", event.getDataSchema().toString());
    read.put("datacontenttype", event.getDataContentType());
    read.put("sequence", event.getExtension("sequence"));
    read.put("traceparent", tracing.getTraceparent());
    read.put("data", json.readTree(event.getData().toBytes()));
    return read;
  }
}
