import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BlockedListener;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/** The client's own recovery of connections and topology, and confirms while the broker fails. */
final class Recovery {
    private Recovery() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("consumers_and_topology_come_back", session -> consumersAndTopologyComeBack());
        cases.put("a_forced_close_says_why", Recovery::aForcedCloseSaysWhy);
        cases.put("what_was_not_acknowledged_comes_again", session -> whatWasNotAcknowledgedComesAgain());
        cases.put("nothing_confirmed_is_lost_under_load", session -> nothingConfirmedIsLostUnderLoad());
        cases.put("blocked_and_unblocked", Recovery::blockedAndUnblocked);
        return cases;
    }

    /** Has the broker fail (cut, restart, kill); returns when it is there again. */
    static void outage(String kind) throws IOException {
        String[] control = System.getenv("CONTROL").split(":");
        try (Socket socket = new Socket(control[0], Integer.parseInt(control[1]))) {
            socket.setSoTimeout(3000 * Session.EVENT_WAIT_MAX_SECONDS);
            socket.getOutputStream().write((kind + "\n").getBytes(StandardCharsets.US_ASCII));
            BufferedReader answer = new BufferedReader(new InputStreamReader(socket.getInputStream()));
            Session.equal(answer.readLine(), "over");
        }
    }

    /** A connection that recovers, and when it did. */
    private static final class Recovering implements AutoCloseable {
        final Connection connection;
        private final BlockingQueue<String> recovered = new LinkedBlockingQueue<>();

        Recovering() throws Exception {
            ConnectionFactory factory = Session.factory();
            factory.setAutomaticRecoveryEnabled(true);
            factory.setTopologyRecoveryEnabled(true);
            factory.setNetworkRecoveryInterval(100);
            connection = factory.newConnection();
            ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
                @Override
                public void handleRecovery(Recoverable which) {
                    recovered.add("recovered");
                }

                @Override
                public void handleRecoveryStarted(Recoverable which) {}
            });
        }

        void through(String kind) throws Exception {
            recovered.clear();
            outage(kind);
            Session.take(recovered, "the recovery after " + kind);
        }

        @Override
        public void close() {
            connection.abort();
        }
    }

    private static String text(Delivery delivery) {
        return new String(delivery.getBody(), StandardCharsets.UTF_8);
    }

    private static void consumersAndTopologyComeBack() throws Exception {
        try (Recovering recovering = new Recovering()) {
            Channel channel = recovering.connection.createChannel();
            channel.confirmSelect();
            channel.basicQos(10);
            String exchange = Session.ownExchange(channel, "topic");
            String inner = Session.ownExchange(channel, "fanout");
            // Named by the server: it has another name after each recovery, and its binding follows it.
            String queue = Session.ownQueue(channel);
            channel.exchangeBind(inner, exchange, "a.#");
            channel.queueBind(queue, inner, "");
            BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
            channel.basicConsume(queue, false, (tag, delivery) -> deliveries.add(delivery), tag -> {});
            for (String kind : List.of("cut", "restart", "cut", "kill")) {
                Session.publish(channel, exchange, "a.b", kind);
                Delivery delivery = Session.take(deliveries, "the delivery before " + kind);
                Session.equal(text(delivery), kind);
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                recovering.through(kind);
            }
            Session.publish(channel, exchange, "a.b", "last");
            Session.equal(text(Session.take(deliveries, "the last delivery")), "last");
        }
    }

    private static void aForcedCloseSaysWhy(Session session) throws Exception {
        BlockingQueue<ShutdownSignalException> closed = new LinkedBlockingQueue<>();
        session.connection.addShutdownListener(closed::add);
        outage("restart");
        ShutdownSignalException why = Session.take(closed, "the close");
        AMQP.Connection.Close close = (AMQP.Connection.Close) why.getReason();
        Session.equal(why.isInitiatedByApplication(), false);
        Session.equal(
                close.getReplyCode() + " " + close.getReplyText(),
                "320 CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'");
    }

    private static void whatWasNotAcknowledgedComesAgain() throws Exception {
        try (Recovering recovering = new Recovering()) {
            Channel channel = recovering.connection.createChannel();
            channel.confirmSelect();
            String queue = Session.unique("again");
            channel.queueDeclare(queue, true, false, false, Map.of("x-queue-type", "quorum"));
            BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
            channel.basicConsume(queue, false, (tag, delivery) -> deliveries.add(delivery), tag -> {});
            Session.publish(channel, "", queue, MessageProperties.PERSISTENT_BASIC, new byte[] {'x'});
            Session.equal(Session.take(deliveries, "the delivery").getEnvelope().isRedeliver(), false);
            for (String kind : List.of("cut", "restart")) {
                recovering.through(kind);
                Session.equal(Session.take(deliveries, "it again").getEnvelope().isRedeliver(), true);
            }
            channel.queueDelete(queue);
        }
    }

    private static void nothingConfirmedIsLostUnderLoad() throws Exception {
        int messages = 10_000;
        String queue = Session.unique("load");
        Set<Integer> confirmed = new HashSet<>();
        Map<Integer, String> outages = Map.of(1, "cut", 2, "kill", 3, "cut");
        // Each round is a connection; but for the last, the broker fails while much is under way.
        for (int round = 1; confirmed.size() < messages; round++) {
            try (Session session = new Session()) {
                session.connection.createChannel().queueDeclare(queue, true, false, false, Map.of());
                publishMissing(session, queue, messages, confirmed, outages.get(round));
            }
        }
        try (Session session = new Session()) {
            Channel channel = session.channel();
            Set<Integer> found = new HashSet<>();
            for (String body : Session.drain(channel, queue)) {
                found.add(Integer.valueOf(body));
            }
            Session.equal(found, confirmed);
            channel.queueDelete(queue);
        }
    }

    /** Publishes what is not confirmed yet; the broker fails when a fifth of all has been confirmed by this connection. */
    private static void publishMissing(Session session, String queue, int messages, Set<Integer> confirmed, String kind)
            throws Exception {
        Channel channel = session.channel();
        ConcurrentSkipListMap<Long, Integer> underWay = new ConcurrentSkipListMap<>();
        Semaphore room = new Semaphore(500);
        BlockingQueue<Integer> came = new LinkedBlockingQueue<>();
        channel.addConfirmListener((tag, multiple) -> {
            Map<Long, Integer> settled = multiple ? underWay.headMap(tag, true) : underWay.subMap(tag, true, tag, true);
            List<Integer> numbers = new ArrayList<>(settled.values());
            settled.clear();
            came.addAll(numbers);
            room.release(numbers.size());
        }, (tag, multiple) -> {});
        // Whoever waits for room must not wait for ever.
        channel.addShutdownListener(why -> room.release(messages));
        Thread failing = null;
        int atLeast = messages / 5;
        try {
            for (int number = 0; number < messages; number++) {
                if (confirmed.contains(number)) {
                    continue;
                }
                if (!room.tryAcquire(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS)) {
                    throw new AssertionError("waited in vain for a confirm");
                }
                if (kind != null && failing == null && came.size() >= atLeast) {
                    failing = new Thread(() -> uncheckedOutage(kind));
                    failing.start();
                }
                underWay.put(channel.getNextPublishSeqNo(), number);
                channel.basicPublish(
                        "", queue, MessageProperties.PERSISTENT_BASIC,
                        Integer.toString(number).getBytes(StandardCharsets.UTF_8));
            }
            channel.waitForConfirms(Session.EVENT_WAIT_MAX_SECONDS * 1000L);
        } catch (IOException | ShutdownSignalException expected) {
            // What is not confirmed is published again by the next connection.
        }
        if (failing != null) {
            failing.join();
        }
        came.drainTo(confirmed);
    }

    private static void uncheckedOutage(String kind) {
        try {
            outage(kind);
        } catch (IOException error) {
            throw new AssertionError(error);
        }
    }

    private static void publishMuch(Channel channel, String queue) {
        try {
            for (int count = 0; count < 100; count++) {
                channel.basicPublish("", queue, null, new byte[256 << 10]);
            }
        } catch (IOException error) {
            throw new AssertionError(error);
        }
    }

    private static void blockedAndUnblocked(Session session) throws Exception {
        BlockingQueue<String> told = new LinkedBlockingQueue<>();
        session.connection.addBlockedListener(new BlockedListener() {
            @Override
            public void handleBlocked(String reason) {
                told.add("blocked: " + reason);
            }

            @Override
            public void handleUnblocked() {
                told.add("unblocked");
            }
        });
        String queue = Session.unique("full");
        try (Session other = new Session()) {
            Channel reader = other.channel();
            reader.queueDeclare(queue, false, false, false, Map.of());
            Channel channel = session.channel();
            // Who is blocked may wait in publishing.
            CompletableFuture<Void> publishing = CompletableFuture.runAsync(() -> publishMuch(channel, queue));
            Session.equal(Session.take(told, "connection.blocked"), "blocked: low on memory");
            reader.basicConsume(queue, true, (tag, delivery) -> {}, tag -> {});
            Session.equal(Session.take(told, "connection.unblocked"), "unblocked");
            publishing.get(Session.EVENT_WAIT_MAX_SECONDS, TimeUnit.SECONDS);
            channel.waitForConfirmsOrDie(Session.EVENT_WAIT_MAX_SECONDS * 1000L);
            reader.queueDelete(queue);
        }
    }
}
