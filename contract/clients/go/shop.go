// A shop with the client that openapi-generator makes for Go. It prints the name of each step when its answer was right.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"shop/payments"
)

const big = 5_000_000_000 // more than 32 bits hold

var url, token = os.Args[1], os.Args[2]

func client(base string) *payments.APIClient {
	configuration := payments.NewConfiguration()
	configuration.Servers = payments.ServerConfigurations{{URL: base}}
	return payments.NewAPIClient(configuration)
}

func as(token string) context.Context {
	return context.WithValue(context.Background(), payments.ContextAccessToken, token)
}

func pay(orderID string, amount int64, paymentToken string) (*payments.Payment, *http.Response, error) {
	request := payments.NewProcessRequest(orderID, amount, payments.USD, payments.CREDIT_CARD)
	request.SetPaymentToken(paymentToken)
	return client(url).PaymentsAPI.ProcessPayment(as(token)).ProcessRequest(*request).IdempotencyKey("pay-" + orderID).Execute()
}

func must[T any](value T, _ *http.Response, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return value
}

// modelOf returns the error as the document describes it.
func modelOf[T any](err error) T {
	var failure *payments.GenericOpenAPIError
	if !errors.As(err, &failure) {
		fail("no refusal, but %v", err)
	}
	model, isModel := failure.Model().(T)
	if !isModel {
		fail("%v is not the model of %s", failure.Model(), failure.Body())
	}
	return model
}

func check(step string, isRight bool, found any) {
	if !isRight {
		fail("%s: %+v", step, found)
	}
	fmt.Println(step)
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func main() {
	paid := must(pay("big", big, "tok_ok"))
	check("pays", paid.Status == string(payments.CAPTURED) && paid.AmountCaptured == big, paid)

	again, answer, err := pay("big", big, "tok_ok")
	replayed := must(again, answer, err)
	check("replays", replayed.PaymentId == paid.PaymentId && answer.Header.Get("Idempotent-Replayed") == "true", answer)

	found := must(client(url).LookUpsAPI.GetPayment(as(token), paid.PaymentId).Execute())
	check("reads back", found.Amount == big && found.OrderId == "big", found)

	_, answer, err = pay("declined", 1999, "tok_card_declined")
	problem := modelOf[payments.Problem](err)
	isDeclined := answer.StatusCode == 402 && problem.Code == string(payments.PAYMENT_DECLINED)
	check("is declined", isDeclined && problem.GetDeclineCode() == string(payments.CARD_DECLINED), problem)

	part := payments.NewRefundRequest()
	part.SetPaymentId(paid.PaymentId)
	part.SetAmount(2_000_000_000)
	refund := must(client(url).RefundsAPI.RefundPayment(as(token)).RefundRequest(*part).IdempotencyKey("return-1").Execute())
	isRefunded := refund.Status == string(payments.REFUND_SUCCEEDED) && refund.AmountRefunded == 2_000_000_000
	check("refunds", isRefunded && refund.PaymentStatus == string(payments.PARTIALLY_REFUNDED), refund)

	for n := 1; n <= 5; n++ {
		must(pay(fmt.Sprintf("small-%d", n), 100, "tok_ok"))
	}
	seen, pages := map[string]bool{}, 0
	for list := client(url).LookUpsAPI.ListPayments(as(token)).Limit(3); ; {
		page := must(list.Execute())
		for _, payment := range page.Data {
			seen[payment.OrderId] = true
		}
		pages++
		if !page.HasMore {
			break
		}
		list = list.Cursor(page.GetNextCursor())
	}
	check("lists", len(seen) == 7 && pages == 3, seen)

	_, answer, err = client(url).LookUpsAPI.GetPayment(as("expired"), paid.PaymentId).Execute()
	refusal := modelOf[payments.ProblemOrMessage](err)
	check("meets 401", answer.StatusCode == 401 && refusal.GetMessage() == "Unauthorized", refusal)

	_, answer, err = client(url+"/throttled").LookUpsAPI.GetPayment(as(token), paid.PaymentId).Execute()
	message := modelOf[payments.Message](err)
	check("meets 429", answer.StatusCode == 429 && message.Message == "Too Many Requests", message)

	newer := client(url + "/newer").LookUpsAPI
	order := must(newer.GetOrder(as(token), "declined").Execute())
	isRead := order.Status == "SETTLING" && order.GetDeclineCode() == "wallet_empty" && order.Amount == 1999
	_, answer, err = newer.GetOrder(as(token), "missing").Execute()
	refusal = modelOf[payments.ProblemOrMessage](err)
	check("meets unknown values", isRead && answer.StatusCode == 404 && refusal.GetCode() == "order_archived", refusal)
}
