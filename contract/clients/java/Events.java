import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import events.Payment;
import events.PaymentWithRefund;
import events.RequestRefused;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads events with the models that modelina makes, writes each again, and prints its type when nothing was lost. */
final class Events {
    private static final ObjectMapper MAPPER = new ObjectMapper()
            .registerModule(new JavaTimeModule())
            .disable(SerializationFeature.WRITE_DATES_AS_TIMESTAMPS)
            .addMixIn(Payment.class, Named.class)
            .addMixIn(PaymentWithRefund.class, Named.class)
            .addMixIn(RequestRefused.class, Named.class);

    /** The header ce_type names the model. Without this, Jackson would guess it from the members, as modelina tells it to. */
    @JsonTypeInfo(use = JsonTypeInfo.Id.NONE)
    private interface Named {}

    private Events() {}

    private static Class<?> model(String type) {
        switch (type) {
            case "payment.refunded":
            case "payment.refund_failed":
                return PaymentWithRefund.class;
            case "payment.refused":
                return RequestRefused.class;
            default:
                return Payment.class;
        }
    }

    /** Java writes a moment without the zeros at the end of its fraction, which the service writes. */
    private static JsonNode sameMoments(JsonNode value) throws JsonProcessingException {
        return MAPPER.readTree(value.toString().replaceAll("(\\.\\d*?)0+Z\"", "$1Z\"").replace(".Z\"", "Z\""));
    }

    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            JsonNode event = MAPPER.readTree(line);
            String type = event.get("type").asText();
            Object read = MAPPER.treeToValue(event.get("value"), model(type));
            JsonNode again = MAPPER.readTree(MAPPER.writeValueAsString(read));
            if (!sameMoments(again).equals(sameMoments(event.get("value")))) {
                throw new AssertionError(again + " is not " + event.get("value"));
            }
            System.out.println(type);
        }
    }
}
