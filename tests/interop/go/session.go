package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// eventWaitMax is how long an expected event may take.
const eventWaitMax = 30 * time.Second

// A session is a connection and what the cases do with it.
type session struct {
	connection *amqp.Connection
}

func newSession() *session {
	return &session{must(amqp.Dial(os.Getenv("AMQP_URL")))}
}

// must gives the value, or ends the case.
func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(found, wanted any, what string) {
	if !reflect.DeepEqual(found, wanted) {
		panic(fmt.Sprintf("%s: %#v, not %#v", what, found, wanted))
	}
}

var names = 0

func unique(stem string) string {
	names++
	return fmt.Sprintf("go-%s-%d-%x-%d", stem, os.Getpid(), time.Now().UnixNano(), names)
}

// channel opens one in confirm mode.
func (s *session) channel() *amqp.Channel {
	channel := must(s.connection.Channel())
	check(channel.Confirm(false))
	return channel
}

// ownQueue declares an exclusive queue named by the server.
func ownQueue(channel *amqp.Channel) string {
	return must(channel.QueueDeclare("", false, false, true, false, nil)).Name
}

// ownExchange declares an exchange that goes with its last binding.
func ownExchange(channel *amqp.Channel, kind string) string {
	name := unique(kind)
	check(channel.ExchangeDeclare(name, kind, false, true, false, false, nil))
	return name
}

// publish waits for the confirm and gives whether it was an acknowledgement.
func publish(channel *amqp.Channel, exchange, key string, mandatory bool, message amqp.Publishing) bool {
	limit, cancel := context.WithTimeout(context.Background(), eventWaitMax)
	defer cancel()
	confirm := must(channel.PublishWithDeferredConfirmWithContext(limit, exchange, key, mandatory, false, message))
	return must(confirm.WaitContext(limit))
}

func text(body string) amqp.Publishing {
	return amqp.Publishing{Body: []byte(body)}
}

// drain takes all that is ready in a queue.
func drain(channel *amqp.Channel, queue string) []string {
	bodies := []string{}
	for {
		delivery, ok, err := channel.Get(queue, true)
		check(err)
		if !ok {
			return bodies
		}
		bodies = append(bodies, string(delivery.Body))
	}
}

// receive takes the next value of a Go channel.
func receive[T any](from <-chan T, what string) T {
	select {
	case value := <-from:
		return value
	case <-time.After(eventWaitMax):
		panic("waited in vain for " + what)
	}
}

// refused expects the action, given a new channel, to have the broker close that channel so.
func (s *session) refused(code int, reason string, action func(*amqp.Channel)) {
	channel := must(s.connection.Channel())
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	action(channel)
	why := receive(closed, reason)
	equal([]any{why.Code, why.Reason}, []any{code, reason}, "the close")
}

// routingCases reads one of the tables that all languages share.
func routingCases(name string, into any) {
	check(json.Unmarshal(must(os.ReadFile(filepath.Join(os.Getenv("ROUTING_CASES"), name))), into))
}

// table turns the numbers of JSON into integers.
func table(fields map[string]any) amqp.Table {
	result := amqp.Table{}
	for name, value := range fields {
		if number, ok := value.(float64); ok {
			value = int64(number)
		}
		result[name] = value
	}
	return result
}
