package main

import (
	"bytes"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var messageCases = []testCase{
	{"properties_come_back", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		sent := amqp.Publishing{
			ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 3,
			CorrelationId: "c", ReplyTo: "r", Expiration: "600000", MessageId: "m", Type: "t", UserId: "guest",
			AppId: "a", Timestamp: time.Unix(1_700_000_000, 0), Body: []byte("body"),
			Headers: amqp.Table{
				"text": "ä", "yes": true, "octet": byte(200), "signed": int8(-3), "short": int16(-300),
				"long": int32(70_000), "longlong": int64(-1), "float": float32(0.5), "double": 2.5,
				"decimal": amqp.Decimal{Scale: 2, Value: 125}, "bytes": []byte{0, 255}, "nothing": nil,
				"list": []any{int32(1), "two"}, "table": amqp.Table{"inner": "x"},
			},
		}
		equal(publish(channel, "", queue, false, sent), true, "confirmed")
		got, ok, err := channel.Get(queue, true)
		check(err)
		equal(ok, true, "a message is there")
		equal(got.Headers, sent.Headers, "headers")
		equal([]any{got.ContentType, got.ContentEncoding, got.DeliveryMode, got.Priority, got.CorrelationId,
			got.ReplyTo, got.Expiration, got.MessageId, got.Type, got.UserId, got.AppId, got.Timestamp.Unix()},
			[]any{sent.ContentType, sent.ContentEncoding, sent.DeliveryMode, sent.Priority, sent.CorrelationId,
				sent.ReplyTo, sent.Expiration, sent.MessageId, sent.Type, sent.UserId, sent.AppId,
				sent.Timestamp.Unix()}, "properties")
		equal(string(got.Body), "body", "body")
	}},
	{"a_thousand_in_order", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		check(channel.Qos(50, 0, false))
		deliveries := must(channel.Consume(queue, "", false, false, false, false, nil))
		confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 1000))
		for number := range 1000 {
			check(channel.Publish("", queue, false, false, text(strconv.Itoa(number))))
		}
		for number := range 1000 {
			delivery := receive(deliveries, "a delivery")
			equal(string(delivery.Body), strconv.Itoa(number), "order")
			check(delivery.Ack(false))
		}
		for number := range 1000 {
			equal(receive(confirms, "a confirm"), amqp.Confirmation{DeliveryTag: uint64(number + 1), Ack: true}, "confirm")
		}
	}},
	{"one_mebibyte", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		body := bytes.Repeat([]byte("leveret!"), 1<<17)
		equal(publish(channel, "", queue, false, amqp.Publishing{Body: body}), true, "confirmed")
		delivery := receive(must(channel.Consume(queue, "", true, false, false, false, nil)), "the delivery")
		equal(bytes.Equal(delivery.Body, body), true, "the same body")
	}},
	{"nacked_comes_again", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		publish(channel, "", queue, false, text("x"))
		first, _, err := channel.Get(queue, false)
		check(err)
		check(first.Nack(false, true))
		again, ok, err := channel.Get(queue, false)
		check(err)
		equal([]any{ok, again.Redelivered, string(again.Body)}, []any{true, true, "x"}, "again")
		check(again.Reject(false))
		equal(drain(channel, queue), []string{}, "left")
	}},
	{"prefetch_holds_the_rest_back", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		for range 5 {
			publish(channel, "", queue, false, text("x"))
		}
		check(channel.Qos(2, 0, false))
		deliveries := must(channel.Consume(queue, "", false, false, false, false, nil))
		receive(deliveries, "the first")
		second := receive(deliveries, "the second")
		equal(must(channel.QueueDeclarePassive(queue, false, false, true, false, nil)).Messages, 3, "ready")
		check(second.Ack(true))
		receive(deliveries, "the third")
		receive(deliveries, "the fourth")
		equal(must(channel.QueueDeclarePassive(queue, false, false, true, false, nil)).Messages, 1, "ready")
	}},
	{"mandatory_is_returned", func(s *session) {
		channel := s.channel()
		returns := channel.NotifyReturn(make(chan amqp.Return, 1))
		key := unique("nobody")
		equal(publish(channel, "amq.direct", key, true, text("x")), true, "confirmed")
		// The return was read before the confirm, or it is not there now.
		select {
		case returned := <-returns:
			equal([]any{returned.ReplyCode, returned.ReplyText, returned.RoutingKey, string(returned.Body)},
				[]any{uint16(312), "NO_ROUTE", key, "x"}, "the return")
		default:
			panic("no return before the confirm")
		}
	}},
	{"cancelled_by_the_broker", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		cancelled := channel.NotifyCancel(make(chan string, 1))
		deliveries := must(channel.Consume(queue, "mine", false, false, false, false, nil))
		must(must(s.connection.Channel()).QueueDelete(queue, false, false, false))
		equal(receive(cancelled, "basic.cancel"), "mine", "the tag")
		if _, open := <-deliveries; open {
			panic("the deliveries go on")
		}
	}},
	{"many_channels", func(s *session) {
		channels, queues := make([]*amqp.Channel, 200), make([]string, 200)
		for place := range channels {
			channels[place] = s.channel()
			queues[place] = ownQueue(channels[place])
		}
		for place, channel := range channels {
			equal(publish(channel, "", queues[place], false, text(queues[place])), true, "confirmed")
		}
		for place, channel := range channels {
			equal(drain(channel, queues[place]), []string{queues[place]}, "its own message")
			check(channel.Close())
		}
	}},
	{"replies_come_without_a_queue", func(s *session) {
		const replyTo = "amq.rabbitmq.reply-to"
		asking, serving := s.channel(), s.channel()
		queue := ownQueue(serving)
		requests := must(serving.Consume(queue, "", true, false, false, false, nil))
		replies := must(asking.Consume(replyTo, "", true, false, false, false, nil))
		for number := range 100 {
			request := amqp.Publishing{ReplyTo: replyTo, CorrelationId: strconv.Itoa(number), Body: []byte("ask")}
			equal(publish(asking, "", queue, true, request), true, "confirmed")
			asked := receive(requests, "the request")
			answer := amqp.Publishing{CorrelationId: asked.CorrelationId, Body: append(asked.Body, '!')}
			equal(publish(serving, "", asked.ReplyTo, true, answer), true, "confirmed")
			reply := receive(replies, "the reply")
			equal([]string{reply.CorrelationId, string(reply.Body)}, []string{request.CorrelationId, "ask!"}, "the reply")
		}
	}},
	{"purge_and_delete_count", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		for range 3 {
			publish(channel, "", queue, false, text("x"))
		}
		equal(must(channel.QueuePurge(queue, false)), 3, "purged")
		publish(channel, "", queue, false, text("x"))
		equal(must(channel.QueueDelete(queue, false, false, false)), 1, "deleted")
	}},
}
