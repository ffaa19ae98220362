package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// outage has the broker fail (cut, restart, kill); it returns when the broker is there again.
func outage(kind string) {
	control := must(net.Dial("tcp", os.Getenv("CONTROL")))
	defer control.Close()
	check(control.SetDeadline(time.Now().Add(3 * eventWaitMax)))
	fmt.Fprintln(control, kind)
	equal(must(bufio.NewReader(control).ReadString('\n')), "over\n", kind)
}

var recoveryCases = []testCase{
	{"notify_close_tells_of_each_outage", func(s *session) {
		for _, one := range []struct {
			kind   string
			code   int
			reason string
		}{
			{"cut", amqp.FrameError, "EOF"},
			{"restart", amqp.ConnectionForced, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"},
		} {
			session := newSession()
			channel := session.channel()
			ofConnection := session.connection.NotifyClose(make(chan *amqp.Error, 1))
			ofChannel := channel.NotifyClose(make(chan *amqp.Error, 1))
			deliveries := must(channel.Consume(ownQueue(channel), "", true, false, false, false, nil))
			outage(one.kind)
			for _, closed := range []chan *amqp.Error{ofConnection, ofChannel} {
				why := receive(closed, "the close after "+one.kind)
				equal([]any{why.Code, why.Reason}, []any{one.code, one.reason}, one.kind)
			}
			if _, open := <-deliveries; open {
				panic("a delivery after the end")
			}
		}
	}},
	{"an_exclusive_queue_is_declared_again_at_once", func(s *session) {
		name := unique("exclusive")
		for range 20 {
			session := newSession()
			channel := session.channel()
			// That of the connection before must be gone as soon as that connection is.
			must(channel.QueueDeclare(name, false, false, true, false, nil))
			deliveries := must(channel.Consume(name, "", true, true, false, false, nil))
			equal(publish(channel, "", name, true, text(name)), true, "confirmed")
			equal(string(receive(deliveries, "the delivery").Body), name, "the body")
			check(session.connection.Close())
		}
	}},
	{"what_was_not_acknowledged_comes_again", func(s *session) {
		name := unique("again")
		for _, kind := range []string{"cut", "kill"} {
			session := newSession()
			channel := session.channel()
			must(channel.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}))
			for number := range 10 {
				equal(publish(channel, "", name, true, persistent(strconv.Itoa(number))), true, "confirmed")
			}
			deliveries := must(channel.Consume(name, "", false, false, false, false, nil))
			for range 10 {
				receive(deliveries, "a delivery")
			}
			outage(kind)

			session = newSession()
			channel = session.channel()
			deliveries = must(channel.Consume(name, "", false, false, false, false, nil))
			for number := range 10 {
				again := receive(deliveries, "a delivery")
				equal([]any{string(again.Body), again.Redelivered}, []any{strconv.Itoa(number), true}, "again")
				check(again.Ack(false))
			}
			must(channel.QueueDelete(name, false, false, false))
			check(session.connection.Close())
		}
	}},
	{"fifty_thousand_confirms_from_ten_goroutines", func(s *session) {
		queue := ownQueue(s.channel())
		var all sync.WaitGroup
		var acknowledged atomic.Int64
		for range 10 {
			channel := s.channel()
			all.Add(1)
			go func() {
				defer all.Done()
				confirms := []*amqp.DeferredConfirmation{}
				for range 5000 {
					confirms = append(confirms, must(channel.PublishWithDeferredConfirm("", queue, true, false, text("x"))))
				}
				for _, confirm := range confirms {
					if confirm.Wait() {
						acknowledged.Add(1)
					}
				}
			}()
		}
		all.Wait()
		equal(acknowledged.Load(), int64(50_000), "acknowledged")
		equal(must(s.channel().QueuePurge(queue, false)), 50_000, "in the queue")
	}},
	{"nothing_confirmed_is_lost_in_outages_under_load", func(s *session) {
		const messages = 10_000
		queue := unique("load")
		must(s.channel().QueueDeclare(queue, true, false, false, false, nil))
		outages := map[int]string{1000: "cut", 4000: "kill", 7000: "cut"}
		var failing sync.WaitGroup
		confirmed := map[int]bool{}
		for len(confirmed) < messages {
			publishMissing(queue, messages, confirmed, func() {
				if kind, found := outages[len(confirmed)]; found {
					delete(outages, len(confirmed))
					failing.Add(1)
					go func() {
						defer failing.Done()
						outage(kind)
					}()
				}
			})
		}
		failing.Wait()
		equal(len(outages), 0, "outages to come")
		channel := newSession().channel()
		found := map[int]bool{}
		for _, body := range drain(channel, queue) {
			found[must(strconv.Atoi(body))] = true
		}
		equal(found, confirmed, "confirmed and found")
		must(channel.QueueDelete(queue, false, false, false))
	}},
	{"blocked_and_unblocked", func(s *session) {
		queue := unique("full")
		other := newSession()
		reader := other.channel()
		must(reader.QueueDeclare(queue, false, false, false, false, nil))
		const messages = 100
		// It may happen again, at most with each message, and the client waits for room.
		blocked := s.connection.NotifyBlocked(make(chan amqp.Blocking, 2*messages))
		channel := s.channel()
		// Who is blocked may wait in publishing.
		published := make(chan []*amqp.DeferredConfirmation, 1)
		go func() {
			confirms := []*amqp.DeferredConfirmation{}
			for range messages {
				message := amqp.Publishing{Body: make([]byte, 256<<10)}
				confirms = append(confirms, must(channel.PublishWithDeferredConfirm("", queue, true, false, message)))
			}
			published <- confirms
		}()
		equal(receive(blocked, "connection.blocked"), amqp.Blocking{Active: true, Reason: "low on memory"}, "blocked")
		must(reader.Consume(queue, "", true, false, false, false, nil))
		equal(receive(blocked, "connection.unblocked").Active, false, "unblocked")
		limit, cancel := context.WithTimeout(context.Background(), eventWaitMax)
		defer cancel()
		for _, confirm := range receive(published, "the end of publishing") {
			equal(must(confirm.WaitContext(limit)), true, "confirmed")
		}
		must(reader.QueueDelete(queue, false, false, false))
		check(other.connection.Close())
	}},
}

func persistent(body string) amqp.Publishing {
	return amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)}
}

// publishMissing publishes, by a connection of its own, what is not yet confirmed, until all is or the connection
// ends. After each confirm it calls progress.
func publishMissing(queue string, messages int, confirmed map[int]bool, progress func()) {
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		return
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil || channel.Confirm(false) != nil {
		return
	}
	const windowMax = 200
	window := map[int]*amqp.DeferredConfirmation{}
	settle := func() {
		for number, confirm := range window {
			limit, cancel := context.WithTimeout(context.Background(), eventWaitMax)
			acknowledged, err := confirm.WaitContext(limit)
			cancel()
			if err == nil && acknowledged {
				confirmed[number] = true
				progress()
			}
		}
		clear(window)
	}
	for number := range messages {
		if confirmed[number] {
			continue
		}
		confirm, err := channel.PublishWithDeferredConfirm("", queue, true, false, persistent(strconv.Itoa(number)))
		if err != nil {
			break
		}
		if window[number] = confirm; len(window) == windowMax {
			settle()
		}
	}
	settle()
}
