import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** A connection and what the cases do with it. */
final class Session implements AutoCloseable {
    /** How long an expected event may take. */
    static final int EVENT_WAIT_MAX_SECONDS = 30;

    private static final AtomicInteger NUMBERS = new AtomicInteger();

    final Connection connection;

    Session() throws Exception {
        connection = factory().newConnection();
    }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URL"));
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    @Override
    public void close() {
        connection.abort();
    }

    /** A new channel in confirm mode. */
    Channel channel() throws IOException {
        Channel channel = connection.createChannel();
        channel.confirmSelect();
        return channel;
    }

    static String unique(String stem) {
        return "java-" + stem + "-" + ProcessHandle.current().pid() + "-" + Long.toHexString(System.nanoTime()) + "-"
                + NUMBERS.incrementAndGet();
    }

    static String ownQueue(Channel channel) throws IOException {
        return channel.queueDeclare().getQueue();
    }

    /** An exchange that goes with its last binding. */
    static String ownExchange(Channel channel, String type) throws IOException {
        String name = unique(type);
        channel.exchangeDeclare(name, type, false, true, Map.of());
        return name;
    }

    static void publish(Channel channel, String exchange, String key, String body) throws Exception {
        publish(channel, exchange, key, null, body.getBytes(StandardCharsets.UTF_8));
    }

    /** Publishes and waits for the confirm. */
    static void publish(Channel channel, String exchange, String key, AMQP.BasicProperties properties, byte[] body)
            throws Exception {
        channel.basicPublish(exchange, key, properties, body);
        channel.waitForConfirmsOrDie(EVENT_WAIT_MAX_SECONDS * 1000L);
    }

    /** All bodies that are ready, taken out. */
    static List<String> drain(Channel channel, String queue) throws IOException {
        List<String> bodies = new ArrayList<>();
        for (GetResponse got; (got = channel.basicGet(queue, true)) != null; ) {
            bodies.add(new String(got.getBody(), StandardCharsets.UTF_8));
        }
        return bodies;
    }

    static void equal(Object found, Object wanted) {
        if (!Objects.deepEquals(found, wanted)) {
            throw new AssertionError(found + ", not " + wanted);
        }
    }

    static <T> T take(BlockingQueue<T> queue, String what) throws InterruptedException {
        T value = queue.poll(EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS);
        if (value == null) {
            throw new AssertionError("waited in vain for " + what);
        }
        return value;
    }

    /** What a refused action does on its channel; the call itself may fail as well. */
    interface Action {
        void on(Channel channel) throws Exception;
    }

    /** The action, given a new channel, must have the broker close that channel so. */
    void refused(int code, String text, Action action) throws Exception {
        Channel channel = connection.createChannel();
        CompletableFuture<ShutdownSignalException> closed = new CompletableFuture<>();
        channel.addShutdownListener(closed::complete);
        try {
            action.on(channel);
        } catch (IOException | ShutdownSignalException expected) {
            // The listener gets the same close.
        }
        Method reason = closed.get(EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS).getReason();
        AMQP.Channel.Close close = (AMQP.Channel.Close) reason;
        equal(close.getReplyCode() + " " + close.getReplyText(), code + " " + text);
    }
}
