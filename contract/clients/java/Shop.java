import com.fasterxml.jackson.core.JsonProcessingException;
import java.util.TreeSet;
import payments.ApiClient;
import payments.ApiException;
import payments.ApiResponse;
import payments.api.LookUpsApi;
import payments.api.LookUpsApi.APIGetOrderRequest;
import payments.api.LookUpsApi.APIGetPaymentRequest;
import payments.api.LookUpsApi.APIListPaymentsRequest;
import payments.api.PaymentsApi;
import payments.api.PaymentsApi.APIProcessPaymentRequest;
import payments.api.RefundsApi;
import payments.api.RefundsApi.APIRefundPaymentRequest;
import payments.model.CurrencyCode;
import payments.model.DeclineCode;
import payments.model.ErrorCode;
import payments.model.Message;
import payments.model.Payment;
import payments.model.PaymentList;
import payments.model.PaymentMethod;
import payments.model.PaymentStatus;
import payments.model.PaymentWithRefunds;
import payments.model.Problem;
import payments.model.ProblemOrMessage;
import payments.model.ProcessRequest;
import payments.model.RefundCreated;
import payments.model.RefundRequest;
import payments.model.RefundStatus;

/** A shop with the client that openapi-generator makes for Java. It prints the name of each step when its answer was right. */
final class Shop {
    private static final long BIG = 5_000_000_000L; // more than an int holds

    private final String url;
    private final String token;
    private final PaymentsApi payments;
    private final LookUpsApi lookUps;

    private Shop(String url, String token) {
        this.url = url;
        this.token = token;
        payments = new PaymentsApi(client(url, token));
        lookUps = new LookUpsApi(client(url, token));
    }

    private static ApiClient client(String url, String token) {
        ApiClient client = new ApiClient();
        client.updateBaseUri(url);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
        return client;
    }

    private ApiResponse<Payment> pay(String orderId, long amount, String paymentToken) throws ApiException {
        ProcessRequest request = new ProcessRequest()
                .orderId(orderId)
                .amount(amount)
                .currency(CurrencyCode.USD)
                .paymentMethod(PaymentMethod.CREDIT_CARD)
                .paymentToken(paymentToken);
        return payments.processPaymentWithHttpInfo(
                APIProcessPaymentRequest.newBuilder().processRequest(request).idempotencyKey("pay-" + orderId).build());
    }

    private interface Call {
        void run() throws ApiException;
    }

    private static ApiException refused(Call call) {
        try {
            call.run();
        } catch (ApiException refusal) {
            return refusal;
        }
        throw new AssertionError("it was not refused");
    }

    private static void check(String step, boolean isRight, Object found) {
        if (!isRight) {
            throw new AssertionError(step + ": " + found);
        }
        System.out.println(step);
    }

    private static <T> T bodyOf(ApiException refusal, Class<T> model) throws JsonProcessingException {
        return ApiClient.createDefaultObjectMapper().readValue(refusal.getResponseBody(), model);
    }

    private void run() throws Exception {
        Payment paid = pay("big", BIG, "tok_ok").getData();
        boolean isCaptured = paid.getStatus().equals(PaymentStatus.CAPTURED.getValue());
        check("pays", isCaptured && paid.getAmountCaptured() == BIG, paid);

        ApiResponse<Payment> again = pay("big", BIG, "tok_ok");
        boolean isReplayed = again.getHeaders().get("idempotent-replayed").contains("true");
        check("replays", isReplayed && again.getData().getPaymentId().equals(paid.getPaymentId()), again.getData());

        APIGetPaymentRequest request = APIGetPaymentRequest.newBuilder().paymentId(paid.getPaymentId()).build();
        PaymentWithRefunds found = lookUps.getPayment(request);
        check("reads back", found.getAmount() == BIG, found);

        ApiException decline = refused(() -> pay("declined", 1999, "tok_card_declined"));
        Problem problem = bodyOf(decline, Problem.class);
        boolean isDeclined = decline.getCode() == 402 && problem.getCode().equals(ErrorCode.PAYMENT_DECLINED.getValue());
        check("is declined", isDeclined && problem.getDeclineCode().equals(DeclineCode.CARD_DECLINED.getValue()), problem);

        RefundRequest part = new RefundRequest().paymentId(paid.getPaymentId().toString()).amount(2_000_000_000L);
        RefundCreated refund = new RefundsApi(client(url, token)).refundPayment(
                APIRefundPaymentRequest.newBuilder().refundRequest(part).idempotencyKey("return-1").build());
        boolean isRefunded = refund.getStatus().equals(RefundStatus.REFUND_SUCCEEDED.getValue());
        check("refunds", isRefunded && refund.getAmountRefunded() == 2_000_000_000L, refund);

        for (int n = 1; n <= 5; n++) {
            pay("small-" + n, 100, "tok_ok");
        }
        TreeSet<String> seen = new TreeSet<>();
        int pages = 0;
        String cursor = null;
        do {
            PaymentList page = lookUps.listPayments(APIListPaymentsRequest.newBuilder().limit(3).cursor(cursor).build());
            page.getData().forEach(payment -> seen.add(payment.getOrderId()));
            cursor = page.getHasMore() ? page.getNextCursor() : null;
            pages++;
        } while (cursor != null);
        check("lists", seen.size() == 7 && pages == 3, seen);

        ApiException unauthorized = refused(() -> new LookUpsApi(client(url, "expired")).getPayment(request));
        ProblemOrMessage refusal = bodyOf(unauthorized, ProblemOrMessage.class);
        check("meets 401", unauthorized.getCode() == 401 && refusal.getMessage().equals("Unauthorized"), refusal);

        ApiException throttled = refused(() -> new LookUpsApi(client(url + "/throttled", token)).getPayment(request));
        Message message = bodyOf(throttled, Message.class);
        check("meets 429", throttled.getCode() == 429 && message.getMessage().equals("Too Many Requests"), message);

        LookUpsApi newer = new LookUpsApi(client(url + "/newer", token));
        PaymentWithRefunds order = newer.getOrder(APIGetOrderRequest.newBuilder().orderId("declined").build());
        boolean isRead = order.getStatus().equals("SETTLING") && order.getDeclineCode().equals("wallet_empty");
        ApiException missing = refused(() -> newer.getOrder(APIGetOrderRequest.newBuilder().orderId("missing").build()));
        ProblemOrMessage unknown = bodyOf(missing, ProblemOrMessage.class);
        check("meets unknown values", isRead && order.getAmount() == 1999 && unknown.getCode().equals("order_archived"), order);
    }

    public static void main(String[] arguments) throws Exception {
        new Shop(arguments[0], arguments[1]).run();
    }
}
