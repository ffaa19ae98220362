import com.rabbitmq.client.amqp.AmqpException;
import com.rabbitmq.client.amqp.Connection;
import com.rabbitmq.client.amqp.Consumer;
import com.rabbitmq.client.amqp.ConsumerBuilder;
import com.rabbitmq.client.amqp.Environment;
import com.rabbitmq.client.amqp.Management;
import com.rabbitmq.client.amqp.Publisher;
import com.rabbitmq.client.amqp.RpcClient;
import com.rabbitmq.client.amqp.RpcServer;
import com.rabbitmq.client.amqp.impl.AmqpEnvironmentBuilder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** RabbitMQ's client of AMQP 1.0. It looks for RabbitMQ's version, so the broker has to announce that. */
final class Amqp10 {
    private Amqp10() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("queues of both types are declared, read and deleted", session -> dial(Amqp10::manages));
        cases.put("messages go through an exchange and are settled", session -> dial(Amqp10::settles));
        cases.put("what is not there is told by its exception", session -> dial(Amqp10::misses));
        cases.put("filters choose messages", session -> dial(Amqp10::filters));
        cases.put("requests are answered", session -> dial(Amqp10::answers));
        return cases;
    }

    private interface Body {
        void run(Connection connection) throws Exception;
    }

    private static void dial(Body body) throws Exception {
        try (Environment environment = new AmqpEnvironmentBuilder().build();
                Connection connection =
                        environment.connectionBuilder().uri(System.getenv("AMQP_URL")).build()) {
            body.run(connection);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void equal(Object found, Object wanted) {
        if (!wanted.equals(found)) {
            throw new AssertionError(found + ", not " + wanted);
        }
    }

    private static String name(String stem) {
        return "java-" + stem + "-" + System.nanoTime();
    }

    private static void manages(Connection connection) {
        Management management = connection.management();
        for (Management.QueueType type : new Management.QueueType[] {
            Management.QueueType.QUORUM, Management.QueueType.CLASSIC
        }) {
            String queue = name("queue");
            management.queue(queue).type(type).declare();
            management.queue(queue).type(type).declare();
            Management.QueueInfo info = management.queueInfo(queue);
            equal(info.type(), type);
            equal(info.messageCount(), 0L);
            equal(management.queuePurge(queue).messageCount(), 0L);
            Management.QueueType other =
                    type == Management.QueueType.QUORUM
                            ? Management.QueueType.CLASSIC
                            : Management.QueueType.QUORUM;
            try {
                management.queue(queue).type(other).declare();
                throw new AssertionError("declared as " + other);
            } catch (AmqpException refused) {
                equal(refused.getMessage().contains("409"), true);
            }
            management.queueDelete(queue);
        }
    }

    private static void settles(Connection connection) throws Exception {
        Management management = connection.management();
        String exchange = name("exchange");
        String queue = name("queue");
        management.exchange(exchange).type(Management.ExchangeType.TOPIC).declare();
        management.queue(queue).type(Management.QueueType.QUORUM).declare();
        management.binding().sourceExchange(exchange).destinationQueue(queue).key("k.#").argument("own", 1).bind();
        int total = 500;
        CountDownLatch accepted = new CountDownLatch(total);
        Publisher publisher = connection.publisherBuilder().exchange(exchange).key("k.a").build();
        for (int number = 0; number < total; number++) {
            publisher.publish(
                    publisher.message(bytes("m" + number)).messageId(number).property("n", number),
                    context -> {
                        if (context.status() == Publisher.Status.ACCEPTED) {
                            accepted.countDown();
                        }
                    });
        }
        equal(accepted.await(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS), true);
        BlockingQueue<Publisher.Status> nobody = new LinkedBlockingQueue<>();
        Publisher unbound = connection.publisherBuilder().exchange(exchange).key("other").build();
        unbound.publish(unbound.message(bytes("m")), context -> nobody.add(context.status()));
        equal(nobody.poll(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS), Publisher.Status.RELEASED);
        // The third and the fifth come again; the seventh does not.
        CountDownLatch came = new CountDownLatch(total + 2);
        int[] count = {0};
        Consumer consumer =
                connection.consumerBuilder().queue(queue).initialCredits(50)
                        .messageHandler((context, message) -> {
                            count[0]++;
                            if (count[0] == 3) {
                                context.requeue();
                            } else if (count[0] == 5) {
                                context.requeue(Map.of("x-own", "why"));
                            } else if (count[0] == 7) {
                                context.discard();
                            } else {
                                context.accept();
                            }
                            came.countDown();
                        })
                        .build();
        equal(came.await(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS), true);
        consumer.close();
        equal(management.queueInfo(queue).messageCount(), 0L);
        management.unbind().sourceExchange(exchange).destinationQueue(queue).key("k.#").argument("own", 1).unbind();
        management.queueDelete(queue);
        management.exchangeDelete(exchange);
    }

    private static void filters(Connection connection) throws Exception {
        Management management = connection.management();
        String queue = name("filtered");
        management.queue(queue).type(Management.QueueType.QUORUM).declare();
        Publisher publisher = connection.publisherBuilder().queue(queue).build();
        int total = 20;
        CountDownLatch accepted = new CountDownLatch(total);
        for (int number = 0; number < total; number++) {
            String subject = number % 4 == 0 ? "order.new" : "invoice";
            publisher.publish(
                    publisher.message(bytes("m" + number)).subject(subject).property("n", number),
                    context -> accepted.countDown());
        }
        equal(accepted.await(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS), true);
        // The API is of streams; the filters are those of all queues here.
        equal(
                some(5, connection.consumerBuilder().queue(queue).stream().filter()
                        .sql("properties.subject LIKE 'order.%' AND n < 100").stream().builder()),
                "m0 m4 m8 m12 m16 ");
        equal(
                some(1, connection.consumerBuilder().queue(queue).stream().filter()
                        .subject("&p:inv").property("n", 7).stream().builder()),
                "m7 ");
        try {
            some(1, connection.consumerBuilder().queue(queue).stream().filter().sql("n <").stream().builder());
            throw new AssertionError("a wrong filter was taken");
        } catch (AmqpException expected) {
            equal(expected.getMessage().contains("at character 4"), true);
        }
        management.queueDelete(queue);
    }

    /** The bodies that come to a consumer, which accepts them, so many. */
    private static String some(int count, ConsumerBuilder builder) throws Exception {
        BlockingQueue<String> bodies = new LinkedBlockingQueue<>();
        try (Consumer consumer =
                builder.messageHandler((context, message) -> {
                            context.accept();
                            bodies.add(new String(message.body(), StandardCharsets.UTF_8) + " ");
                        })
                        .build()) {
            StringBuilder came = new StringBuilder();
            for (int number = 0; number < count; number++) {
                came.append(bodies.poll(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS));
            }
            return came.toString();
        }
    }

    private static void misses(Connection connection) {
        String none = name("none");
        try {
            connection.consumerBuilder().queue(none).messageHandler((context, message) -> {}).build();
            throw new AssertionError("there is a consumer");
        } catch (AmqpException.AmqpEntityDoesNotExistException expected) {
            equal(expected.getMessage().contains("no queue '" + none + "' in vhost '/'"), true);
        }
        try {
            connection.management().queueInfo(none);
            throw new AssertionError("there is a queue");
        } catch (AmqpException.AmqpEntityDoesNotExistException expected) {
            equal(expected.getMessage().contains("queue '" + none + "' in vhost '/'"), true);
        }
    }

    private static void answers(Connection connection) throws Exception {
        Management management = connection.management();
        String requests = management.queue(name("requests")).exclusive(true).declare().name();
        try (RpcServer server =
                        connection.rpcServerBuilder().requestQueue(requests)
                                .handler((context, request) -> context.message(request.body()))
                                .build();
                RpcClient client = connection.rpcClientBuilder().requestAddress().queue(requests).rpcClient().build()) {
            for (int number = 0; number < 20; number++) {
                String text = "request " + number;
                byte[] answer =
                        client.publish(client.message(bytes(text)))
                                .get(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS)
                                .body();
                equal(new String(answer, StandardCharsets.UTF_8), text);
            }
        }
    }
}
