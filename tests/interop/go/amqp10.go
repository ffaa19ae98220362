package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"

	amqp10 "github.com/Azure/go-amqp"
)

// AMQP 1.0: Azure's client, on the same port as the other protocol.
var amqp10Cases = []testCase{
	{"values and sections come back as they went", amqp10Values},
	{"outcomes with their annotations", amqp10Outcomes},
	{"receivers that settle second, concurrently", amqp10Second},
	{"sessions with small windows", amqp10Windows},
	{"large messages through small frames", amqp10Large},
	{"a message as large as the broker takes", amqp10Huge},
	{"a link that ends says why", amqp10Errors},
	{"a credit that is given by hand", amqp10Credit},
	{"what is settled when it is sent", amqp10Settled},
	{"the other protocol's messages", amqp10Other},
	{"dynamic nodes go with their links", amqp10Dynamic},
	{"selectors choose messages", amqp10Selectors},
	{"a null target leads where each message says", amqp10Anonymous},
}

// temporary is what RabbitMQ wants of those that ask for a dynamic node.
var temporary = []string{"temporary-queue"}

// dial10 opens a connection and a session.
func dial10(options *amqp10.ConnOptions, session *amqp10.SessionOptions) (*amqp10.Conn, *amqp10.Session) {
	place := must(url.Parse(os.Getenv("AMQP_URL")))
	password, _ := place.User.Password()
	if options == nil {
		options = &amqp10.ConnOptions{}
	}
	options.SASLType = amqp10.SASLTypePlain(place.User.Username(), password)
	connection := must(amqp10.Dial(limit(), "amqp://"+place.Host, options))
	return connection, must(connection.NewSession(limit(), session))
}

// limit is for one call.
func limit() context.Context {
	context, cancel := context.WithTimeout(context.Background(), eventWaitMax)
	_ = cancel
	return context
}

// durableQueue declares a queue by the other protocol, and gives its address too.
func durableQueue(s *session) (string, string) {
	name := unique("amqp10")
	must(s.channel().QueueDeclare(name, true, false, false, false, nil))
	return name, "/queues/" + url.PathEscape(name)
}

func amqp10Values(s *session) {
	_, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, nil))
	receiver := must(session.NewReceiver(limit(), address, nil))
	subject, group := "subject", "group"
	sequence := uint32(4)
	for _, value := range []any{
		"text", int64(-5), uint8(200), 2.5, true, []any{int32(1), "two"}, map[string]any{"k": []any{int64(1)}},
		amqp10.UUID{1, 2, 3}, amqp10.Symbol("sym"), []byte{0, 255},
	} {
		sent := &amqp10.Message{
			Header:                &amqp10.MessageHeader{Durable: true, Priority: 6},
			Properties:            &amqp10.MessageProperties{MessageID: uint64(7), Subject: &subject, GroupID: &group, GroupSequence: &sequence},
			ApplicationProperties: map[string]any{"n": int64(1), "s": "x"},
			Annotations:           amqp10.Annotations{"x-own": "a"},
			Footer:                amqp10.Annotations{"x-sum": int64(9)},
			Value:                 value,
		}
		check(sender.Send(limit(), sent, nil))
		came := must(receiver.Receive(limit(), nil))
		check(receiver.AcceptMessage(limit(), came))
		if symbol, is := value.(amqp10.Symbol); is {
			value = string(symbol)
		}
		equal(came.Value, value, "value")
		equal(came.Properties, sent.Properties, "properties")
		equal(came.ApplicationProperties, sent.ApplicationProperties, "application properties")
		equal(came.Footer, sent.Footer, "footer")
		equal(came.Annotations["x-own"], any("a"), "annotation")
		equal([]any{came.Header.Durable, came.Header.Priority}, []any{true, uint8(6)}, "header")
	}
	parts := &amqp10.Message{Data: [][]byte{[]byte("a"), []byte("b")}}
	check(sender.Send(limit(), parts, nil))
	equal(must(receiver.Receive(limit(), nil)).Data, parts.Data, "several data sections")
}

func amqp10Outcomes(s *session) {
	name, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, nil))
	receiver := must(session.NewReceiver(limit(), address, &amqp10.ReceiverOptions{Credit: 1}))
	check(sender.Send(limit(), amqp10.NewMessage([]byte("m")), nil))
	next := func() *amqp10.Message { return must(receiver.Receive(limit(), nil)) }
	check(receiver.ReleaseMessage(limit(), next()))
	again := next()
	equal(again.Header.FirstAcquirer, false, "first acquirer")
	added := amqp10.Annotations{"x-opt-why": "first", "x-opt-list": []any{"a", int64(1)}}
	check(receiver.ModifyMessage(limit(), again, &amqp10.ModifyMessageOptions{DeliveryFailed: true, Annotations: added}))
	again = next()
	equal(again.Header.DeliveryCount, uint32(1), "delivery count")
	for key, value := range added {
		equal(again.Annotations[key], value, "an annotation that was added")
	}
	check(receiver.RejectMessage(limit(), again, &amqp10.Error{Condition: "own:reason"}))
	equal(must(s.channel().QueueDeclarePassive(name, true, false, false, false, nil)).Messages, 0, "messages")
	nobody := must(session.NewSender(limit(), "/exchanges/amq.fanout", nil))
	receipt := must(nobody.SendWithReceipt(limit(), amqp10.NewMessage([]byte("m")), nil))
	_, isReleased := must(receipt.Wait(limit())).(*amqp10.StateReleased)
	equal(isReleased, true, "released")
}

func amqp10Second(s *session) {
	name, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	second := amqp10.ReceiverSettleModeSecond
	sender := must(session.NewSender(limit(), address, &amqp10.SenderOptions{RequestedReceiverSettleMode: second.Ptr()}))
	const total = 500
	var sending sync.WaitGroup
	for worker := range 5 {
		sending.Add(1)
		go func() {
			defer sending.Done()
			for number := range total / 5 {
				check(sender.Send(limit(), amqp10.NewMessage(fmt.Appendf(nil, "%d-%d", worker, number)), nil))
			}
		}()
	}
	sending.Wait()
	receiver := must(session.NewReceiver(limit(), address, &amqp10.ReceiverOptions{Credit: 100, SettlementMode: second.Ptr()}))
	seen := map[string]bool{}
	for range total {
		came := must(receiver.Receive(limit(), nil))
		seen[string(came.GetData())] = true
		check(receiver.AcceptMessage(limit(), came))
	}
	equal(len(seen), total, "messages")
	equal(must(s.channel().QueueDeclarePassive(name, true, false, false, false, nil)).Messages, 0, "messages")
}

func amqp10Windows(s *session) {
	_, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, nil))
	const total = 300
	for number := range total {
		check(sender.Send(limit(), amqp10.NewMessage(bytes.Repeat([]byte{byte(number)}, 2000)), nil))
	}
	// Messages of several frames, more of them than the session takes at a time.
	narrow, _ := dial10(&amqp10.ConnOptions{MaxFrameSize: 512}, nil)
	defer narrow.Close()
	small := must(narrow.NewSession(limit(), nil))
	receiver := must(small.NewReceiver(limit(), address, &amqp10.ReceiverOptions{Credit: total}))
	for number := range total {
		came := must(receiver.Receive(limit(), nil))
		equal(came.GetData()[1999], byte(number), "order")
		check(receiver.AcceptMessage(limit(), came))
	}
}

func amqp10Large(s *session) {
	_, address := durableQueue(s)
	connection, session := dial10(&amqp10.ConnOptions{MaxFrameSize: 1024}, nil)
	defer connection.Close()
	body := bytes.Repeat([]byte("0123456789abcdef"), 640*1024)
	sender := must(session.NewSender(limit(), address, nil))
	check(sender.Send(limit(), amqp10.NewMessage(body), nil))
	receiver := must(session.NewReceiver(limit(), address, &amqp10.ReceiverOptions{Credit: 1}))
	came := must(receiver.Receive(limit(), nil))
	check(receiver.AcceptMessage(limit(), came))
	equal(bytes.Equal(came.GetData(), body), true, "body")
}

func amqp10Huge(s *session) {
	_, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, nil))
	receiver := must(session.NewReceiver(limit(), address, &amqp10.ReceiverOptions{Credit: 1}))
	// Less what stands around it.
	body := make([]byte, sender.MaxMessageSize()-1000)
	for at := range body {
		body[at] = byte(at>>12) ^ byte(at)
	}
	sent := sha256.Sum256(body)
	durable := &amqp10.MessageHeader{Durable: true}
	check(sender.Send(limit(), &amqp10.Message{Header: durable, Data: [][]byte{body}}, nil))
	message := must(receiver.Receive(limit(), nil))
	equal(len(message.GetData()), len(body), "length")
	equal(sha256.Sum256(message.GetData()), sent, "digest")
	check(receiver.AcceptMessage(limit(), message))
}

func amqp10Errors(s *session) {
	name, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	_, err := session.NewSender(limit(), "/queues/none", nil)
	equal(condition(err), amqp10.ErrCondNotFound, "no such queue")
	_, err = session.NewReceiver(limit(), "none", nil)
	equal(condition(err), amqp10.ErrCondInvalidField, "no address")
	receiver := must(session.NewReceiver(limit(), address, nil))
	must(s.channel().QueueDelete(name, false, false, false))
	_, err = receiver.Receive(limit(), nil)
	equal(condition(err), amqp10.ErrCondResourceDeleted, "a queue that is gone")
	_, err = amqp10.Dial(limit(), "amqp://"+must(url.Parse(os.Getenv("AMQP_URL"))).Host, &amqp10.ConnOptions{
		SASLType: amqp10.SASLTypePlain("guest", "wrong"),
	})
	equal(err != nil, true, "a wrong password")
}

// condition is that of an error that came with the end of a link, or instead of it.
func condition(err error) amqp10.ErrCond {
	var link *amqp10.LinkError
	if errors.As(err, &link) && link.RemoteErr != nil {
		return link.RemoteErr.Condition
	}
	var plain *amqp10.Error
	if !errors.As(err, &plain) {
		panic(fmt.Sprintf("no error of a link: %v", err))
	}
	return plain.Condition
}

func amqp10Credit(s *session) {
	_, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, nil))
	for number := range 5 {
		check(sender.Send(limit(), amqp10.NewMessage([]byte{byte(number)}), nil))
	}
	receiver := must(session.NewReceiver(limit(), address, &amqp10.ReceiverOptions{Credit: -1}))
	check(receiver.IssueCredit(10))
	for number := range 5 {
		came := must(receiver.Receive(limit(), nil))
		equal(came.GetData(), []byte{byte(number)}, "order")
		check(receiver.AcceptMessage(limit(), came))
	}
	check(receiver.DrainCredit(limit(), nil))
	equal(receiver.Prefetched() == nil, true, "nothing more")
	check(sender.Send(limit(), amqp10.NewMessage([]byte("later")), nil))
	check(receiver.IssueCredit(1))
	equal(must(receiver.Receive(limit(), nil)).GetData(), []byte("later"), "after the drain")
}

func amqp10Settled(s *session) {
	name, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, &amqp10.SenderOptions{SettlementMode: amqp10.SenderSettleModeSettled.Ptr()}))
	for number := range 100 {
		check(sender.Send(limit(), amqp10.NewMessage([]byte{byte(number)}), nil))
	}
	receiver := must(session.NewReceiver(limit(), address, &amqp10.ReceiverOptions{
		Credit: 100, RequestedSenderSettleMode: amqp10.SenderSettleModeSettled.Ptr(),
	}))
	for number := range 100 {
		equal(must(receiver.Receive(limit(), nil)).GetData(), []byte{byte(number)}, "order")
	}
	equal(must(s.channel().QueueDeclarePassive(name, true, false, false, false, nil)).Messages, 0, "messages")
}

func amqp10Other(s *session) {
	name, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	receiver := must(session.NewReceiver(limit(), address, nil))
	message := text("from 0-9-1")
	message.Headers = map[string]any{"x-own": "a", "plain": int64(4)}
	message.DeliveryMode = 2
	equal(publish(s.channel(), "", name, false, message), true, "confirm")
	came := must(receiver.Receive(limit(), nil))
	equal(came.GetData(), []byte("from 0-9-1"), "body")
	equal(came.Annotations["x-own"], any("a"), "annotation")
	equal(came.ApplicationProperties, map[string]any{"plain": int64(4)}, "application properties")
	equal(came.Header.Durable, true, "durable")
}

func amqp10Dynamic(*session) {
	connection, session := dial10(nil, nil)
	defer connection.Close()
	receiver := must(session.NewReceiver(limit(), "", &amqp10.ReceiverOptions{DynamicAddress: true, SourceCapabilities: temporary}))
	sender := must(session.NewSender(limit(), receiver.Address(), nil))
	check(sender.Send(limit(), amqp10.NewMessage([]byte("reply")), nil))
	came := must(receiver.Receive(limit(), nil))
	equal(came.GetData(), []byte("reply"), "body")
	check(receiver.AcceptMessage(limit(), came))
	// It is of its connection.
	other, foreign := dial10(nil, nil)
	defer other.Close()
	_, err := foreign.NewReceiver(limit(), receiver.Address(), nil)
	equal(condition(err), amqp10.ErrCondResourceLocked, "another connection's queue")
	check(receiver.Close(limit()))
	_, err = session.NewReceiver(limit(), receiver.Address(), nil)
	equal(condition(err), amqp10.ErrCondNotFound, "after the link")
	made := must(session.NewSender(limit(), "", &amqp10.SenderOptions{DynamicAddress: true, TargetCapabilities: temporary}))
	check(made.Send(limit(), amqp10.NewMessage([]byte("m")), nil))
	receiver = must(session.NewReceiver(limit(), made.Address(), nil))
	equal(must(receiver.Receive(limit(), nil)).GetData(), []byte("m"), "of a dynamic target")
}

func amqp10Selectors(s *session) {
	name, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), address, nil))
	for number := range 6 {
		message := amqp10.NewMessage([]byte{byte(number)})
		message.ApplicationProperties = map[string]any{"number": int64(number)}
		check(sender.Send(limit(), message, nil))
	}
	selected := func(selector string) *amqp10.ReceiverOptions {
		return &amqp10.ReceiverOptions{Credit: 10, Filters: []amqp10.LinkFilter{amqp10.NewSelectorFilter(selector)}}
	}
	receiver := must(session.NewReceiver(limit(), address, selected("number BETWEEN 2 AND 4")))
	for _, number := range []byte{2, 3, 4} {
		came := must(receiver.Receive(limit(), nil))
		equal(came.GetData(), []byte{number}, "what was selected")
		check(receiver.AcceptMessage(limit(), came))
	}
	check(receiver.Close(limit()))
	equal(must(s.channel().QueueDeclarePassive(name, true, false, false, false, nil)).Messages, 3, "messages")
	_, err := session.NewReceiver(limit(), address, selected("number BETWEEN 2"))
	equal(condition(err), amqp10.ErrCondInvalidField, "a wrong selector")
}

func amqp10Anonymous(s *session) {
	_, address := durableQueue(s)
	connection, session := dial10(nil, nil)
	defer connection.Close()
	sender := must(session.NewSender(limit(), "", nil))
	to := func(address string) *amqp10.Message {
		message := amqp10.NewMessage([]byte("m"))
		message.Properties = &amqp10.MessageProperties{To: &address}
		return message
	}
	check(sender.Send(limit(), to(address), nil))
	equal(condition(sender.Send(limit(), to("/exchanges/none/k"), nil)), amqp10.ErrCondNotFound, "no such exchange")
	equal(condition(sender.Send(limit(), amqp10.NewMessage(nil), nil)), amqp10.ErrCondPreconditionFailed, "no address")
	receiver := must(session.NewReceiver(limit(), address, nil))
	equal(must(receiver.Receive(limit(), nil)).GetData(), []byte("m"), "body")
}
