package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

// refusedLogin expects opening a connection to fail so.
func refusedLogin(code int, address *url.URL) {
	connection, err := amqp.Dial(address.String())
	if err == nil {
		connection.Close()
		panic("the login was accepted")
	}
	var refusal *amqp.Error
	if !errors.As(err, &refusal) {
		panic(fmt.Sprintf("no refusal: %v", err))
	}
	equal(refusal.Code, code, refusal.Reason)
}

var errorCases = []testCase{
	{"absent_exchange", func(s *session) {
		name := unique("absent")
		s.refused(404, fmt.Sprintf("NOT_FOUND - no exchange '%s' in vhost '/'", name), func(channel *amqp.Channel) {
			channel.Publish(name, "key", false, false, text("x"))
		})
	}},
	{"absent_queue", func(s *session) {
		name := unique("absent")
		s.refused(404, fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", name), func(channel *amqp.Channel) {
			channel.QueueDeclarePassive(name, false, false, false, false, nil)
		})
	}},
	{"unknown_delivery_tag", func(s *session) {
		s.refused(406, "PRECONDITION_FAILED - unknown delivery tag 8", func(channel *amqp.Channel) {
			channel.Ack(8, false)
		})
	}},
	{"duplicate_consumer_tag", func(s *session) {
		channel := s.channel()
		queue := ownQueue(channel)
		closed := s.connection.NotifyClose(make(chan *amqp.Error, 1))
		must(channel.Consume(queue, "twice", false, false, false, false, nil))
		channel.Consume(queue, "twice", false, false, false, true, nil)
		why := receive(closed, "connection.close")
		equal([]any{why.Code, why.Reason}, []any{530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'"}, "close")
	}},
	{"bad_logins", func(_ *session) {
		address := must(url.Parse(os.Getenv("AMQP_URL")))
		user := address.User
		address.User = url.UserPassword("guest", "wrong")
		refusedLogin(403, address)
		address.User = user
		address.Path, address.RawPath = "/nowhere", ""
		// amqp091-go says 501 for whatever the broker answers to connection.open.
		_, err := amqp.Dial(address.String())
		if err == nil {
			panic("an absent virtual host was opened")
		}
	}},
}
