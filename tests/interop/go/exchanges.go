package main

import (
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

type route struct {
	Key    string
	Queues []string
}

type topicTable struct {
	Bindings []struct {
		Queue, Pattern string
		Arguments      map[string]any
	}
	Routes      []route
	Unbind      []int
	RoutesAfter []route `json:"routes_after"`
}

type headersTable struct {
	Cases []struct {
		Name               string
		Arguments, Headers map[string]any
		Routed             bool
	}
}

func checkRoutes(channel *amqp.Channel, exchange string, queues map[string]string, routes []route) {
	for _, route := range routes {
		publish(channel, exchange, route.Key, false, text("x"))
		for name, queue := range queues {
			copies := 0
			if slices.Contains(route.Queues, name) {
				copies = 1
			}
			equal(len(drain(channel, queue)), copies, fmt.Sprintf("copies for the key %q in %s", route.Key, name))
		}
	}
}

var exchangeCases = []testCase{
	{"topic_by_its_table", func(s *session) {
		var cases topicTable
		routingCases("topic.json", &cases)
		channel := s.channel()
		exchange := ownExchange(channel, "topic")
		queues := map[string]string{}
		for _, binding := range cases.Bindings {
			if queues[binding.Queue] == "" {
				queues[binding.Queue] = ownQueue(channel)
			}
			check(channel.QueueBind(queues[binding.Queue], binding.Pattern, exchange, false, table(binding.Arguments)))
		}
		equal(len(cases.Routes), 12, "keys")
		checkRoutes(channel, exchange, queues, cases.Routes)
		for _, index := range cases.Unbind {
			binding := cases.Bindings[index]
			check(channel.QueueUnbind(queues[binding.Queue], binding.Pattern, exchange, table(binding.Arguments)))
		}
		checkRoutes(channel, exchange, queues, cases.RoutesAfter)
	}},
	{"headers_by_its_table", func(s *session) {
		var cases headersTable
		routingCases("headers.json", &cases)
		equal(len(cases.Cases), 27, "cases")
		channel := s.channel()
		for _, one := range cases.Cases {
			exchange, queue := ownExchange(channel, "headers"), ownQueue(channel)
			check(channel.QueueBind(queue, "", exchange, false, table(one.Arguments)))
			message := text("x")
			if one.Headers != nil {
				message.Headers = table(one.Headers)
			}
			publish(channel, exchange, "", false, message)
			equal(len(drain(channel, queue)) == 1, one.Routed, one.Name)
		}
	}},
	{"direct_and_fanout", func(s *session) {
		channel := s.channel()
		direct, fanout := ownExchange(channel, "direct"), ownExchange(channel, "fanout")
		first, second := ownQueue(channel), ownQueue(channel)
		check(channel.QueueBind(first, "one", direct, false, nil))
		check(channel.QueueBind(second, "two", direct, false, nil))
		check(channel.QueueBind(first, "", fanout, false, nil))
		check(channel.QueueBind(second, "", fanout, false, nil))
		publish(channel, direct, "one", false, text("direct"))
		publish(channel, fanout, "one", false, text("fanout"))
		equal(drain(channel, first), []string{"direct", "fanout"}, "first")
		equal(drain(channel, second), []string{"fanout"}, "second")
	}},
	{"exchange_to_exchange", func(s *session) {
		channel := s.channel()
		source, destination := ownExchange(channel, "direct"), ownExchange(channel, "topic")
		queue := ownQueue(channel)
		check(channel.ExchangeBind(destination, "a.b", source, false, nil))
		check(channel.QueueBind(queue, "a.#", destination, false, nil))
		publish(channel, source, "a.b", false, text("through"))
		// The source goes with its last binding.
		check(channel.ExchangeBind(destination, "other", source, false, nil))
		check(channel.ExchangeUnbind(destination, "a.b", source, false, nil))
		publish(channel, source, "a.b", false, text("not"))
		equal(drain(channel, queue), []string{"through"}, "routed")
	}},
}
