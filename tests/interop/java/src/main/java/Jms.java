import com.rabbitmq.client.Channel;
import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.DeliveryMode;
import jakarta.jms.InvalidSelectorException;
import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.QueueBrowser;
import jakarta.jms.StreamMessage;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.TextMessage;
import java.net.URI;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.qpid.jms.JmsConnectionFactory;

/** Jakarta Messaging: Apache Qpid JMS, which speaks AMQP 1.0. */
final class Jms {
    private static final long WAIT_MS = Session.EVENT_WAIT_MAX_SECONDS * 1000L;

    private Jms() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("selectors choose messages", session -> dial(session, Jms::selects));
        cases.put("two selectors share a queue", session -> dial(session, Jms::shares));
        cases.put("a wrong selector is told", session -> dial(session, Jms::refuses));
        cases.put("what a transaction rolls back comes again to its selector", session -> dial(session, Jms::rollsBack));
        cases.put("what a transaction commits is sent and gone", session -> dial(session, Jms::commits));
        cases.put("a login by SCRAM-SHA-256", session -> dial(session, "SCRAM-SHA-256", Jms::selects));
        cases.put("requests are answered at a temporary queue", session -> dial(session, Jms::answers));
        cases.put("what is recovered comes again and is counted", session -> dial(session, Jms::recovers));
        cases.put("messages of every type come as they went", session -> dial(session, Jms::types));
        cases.put("a browser sees what is there and leaves it", session -> dial(session, Jms::browses));
        return cases;
    }

    private interface Body {
        void run(Connection connection, String queue, Channel channel) throws Exception;
    }

    private static void dial(Session session, Body body) throws Exception {
        dial(session, "PLAIN", body);
    }

    private static void dial(Session session, String mechanism, Body body) throws Exception {
        URI url = new URI(System.getenv("AMQP_URL"));
        JmsConnectionFactory factory =
                new JmsConnectionFactory("amqp://" + url.getHost() + ":" + url.getPort() + "?amqp.saslMechanisms=" + mechanism);
        String[] user = url.getUserInfo().split(":");
        String queue = Session.unique("jms");
        Channel channel = session.channel();
        channel.queueDeclare(queue, true, false, false, Map.of());
        try (Connection connection = factory.createConnection(user[0], user[1])) {
            connection.start();
            body.run(connection, queue, channel);
        }
        channel.queueDelete(queue);
    }

    private static void equal(Object found, Object wanted) {
        if (!wanted.equals(found)) {
            throw new AssertionError(found + ", not " + wanted);
        }
    }

    private static Queue queue(jakarta.jms.Session session, String name) throws JMSException {
        return session.createQueue("/queues/" + name);
    }

    /** Sends messages with a number each, and a colour in turn. */
    private static void send(jakarta.jms.Session session, String queue, int count) throws JMSException {
        String[] colours = {"red", "green", "blue"};
        MessageProducer producer = session.createProducer(queue(session, queue));
        for (int number = 0; number < count; number++) {
            TextMessage message = session.createTextMessage("m" + number);
            message.setStringProperty("colour", colours[number % 3]);
            message.setIntProperty("number", number);
            message.setJMSType("kind" + number % 2);
            producer.send(message);
        }
        producer.close();
    }

    /** The next so many of a consumer. */
    private static String take(MessageConsumer consumer, int count) throws JMSException {
        StringBuilder came = new StringBuilder();
        for (int number = 0; number < count; number++) {
            Message message = consumer.receive(WAIT_MS);
            came.append(message == null ? "nothing" : ((TextMessage) message).getText()).append(' ');
        }
        return came.toString();
    }

    private static void selects(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        send(session, queue, 12);
        String selector = "colour = 'red' AND number BETWEEN 3 AND 9 AND JMSType IN ('kind0', 'kind1') AND other IS NULL";
        MessageConsumer consumer = session.createConsumer(queue(session, queue), selector);
        equal(take(consumer, 3), "m3 m6 m9 ");
        // Its credit is drained: the broker tells that there is no more.
        equal(consumer.receiveNoWait() == null, true);
        consumer.close();
        MessageConsumer rest = session.createConsumer(queue(session, queue));
        equal(take(rest, 9), "m0 m1 m2 m4 m5 m7 m8 m10 m11 ");
        session.close();
    }

    private static void shares(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        MessageConsumer red = session.createConsumer(queue(session, queue), "colour = 'red'");
        MessageConsumer blue = session.createConsumer(queue(session, queue), "colour LIKE 'bl%'");
        send(session, queue, 9);
        equal(take(blue, 3), "m2 m5 m8 ");
        equal(take(red, 3), "m0 m3 m6 ");
        session.close();
        equal(channel.messageCount(queue), 3L);
    }

    private static void refuses(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        try {
            session.createConsumer(queue(session, queue), "colour = 'red' AND AND");
            throw new AssertionError("a wrong selector was taken");
        } catch (InvalidSelectorException expected) {
            // The client finds most faults itself.
        }
        session.close();
    }

    private static void rollsBack(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session plain = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        send(plain, queue, 6);
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(queue(session, queue), "colour = 'green'");
        equal(take(consumer, 2), "m1 m4 ");
        session.rollback();
        equal(take(consumer, 2), "m1 m4 ");
        session.commit();
        session.close();
        plain.close();
        equal(channel.messageCount(queue), 4L);
    }

    private static void commits(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.SESSION_TRANSACTED);
        send(session, queue, 3);
        equal(channel.messageCount(queue), 0L);
        session.commit();
        equal(channel.messageCount(queue), 3L);
        MessageConsumer consumer = session.createConsumer(queue(session, queue), "number >= 1");
        equal(take(consumer, 2), "m1 m2 ");
        session.commit();
        session.close();
        equal(channel.messageCount(queue), 1L);
    }

    private static void answers(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue replies = session.createTemporaryQueue();
        MessageConsumer answered = session.createConsumer(replies);
        MessageProducer requests = session.createProducer(queue(session, queue));
        MessageConsumer server = session.createConsumer(queue(session, queue));
        // It sends to where each message says.
        MessageProducer answers = session.createProducer(null);
        for (int number = 0; number < 10; number++) {
            TextMessage request = session.createTextMessage("m" + number);
            request.setJMSReplyTo(replies);
            request.setJMSCorrelationID("c" + number);
            requests.send(request);
            TextMessage came = (TextMessage) server.receive(WAIT_MS);
            TextMessage answer = session.createTextMessage("to " + came.getText());
            answer.setJMSCorrelationID(came.getJMSCorrelationID());
            answers.send(came.getJMSReplyTo(), answer);
            TextMessage reply = (TextMessage) answered.receive(WAIT_MS);
            equal(reply.getText() + " " + reply.getJMSCorrelationID(), "to m" + number + " c" + number);
        }
        answered.close();
        replies.delete();
        session.close();
    }

    private static void recovers(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.CLIENT_ACKNOWLEDGE);
        send(session, queue, 3);
        MessageConsumer consumer = session.createConsumer(queue(session, queue));
        equal(take(consumer, 3), "m0 m1 m2 ");
        session.recover();
        for (int number = 0; number < 3; number++) {
            TextMessage again = (TextMessage) consumer.receive(WAIT_MS);
            equal(again.getText() + " " + again.getJMSRedelivered(), "m" + number + " true");
            equal(again.getIntProperty("JMSXDeliveryCount"), 2);
            if (number == 2) {
                again.acknowledge();
            }
        }
        session.close();
        equal(channel.messageCount(queue), 0L);
    }

    private static void browses(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        send(session, queue, 5);
        equal(seen(session.createBrowser(queue(session, queue))), "m0 m1 m2 m3 m4 ");
        equal(seen(session.createBrowser(queue(session, queue), "colour = 'red'")), "m0 m3 ");
        equal(channel.messageCount(queue), 5L);
        equal(take(session.createConsumer(queue(session, queue)), 5), "m0 m1 m2 m3 m4 ");
        session.close();
    }

    /** What a browser sees until there is no more. */
    private static String seen(QueueBrowser browser) throws JMSException {
        StringBuilder seen = new StringBuilder();
        for (Object message : java.util.Collections.list(browser.getEnumeration())) {
            seen.append(((TextMessage) message).getText()).append(' ');
        }
        browser.close();
        return seen.toString();
    }

    private static void types(Connection connection, String queue, Channel channel) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(queue(session, queue));
        MessageConsumer consumer = session.createConsumer(queue(session, queue));
        byte[] large = new byte[3_000_000];
        new java.util.Random(1).nextBytes(large);
        BytesMessage bytes = session.createBytesMessage();
        bytes.writeBytes(large);
        bytes.setByteProperty("byte", (byte) -1);
        bytes.setDoubleProperty("double", 0.5);
        bytes.setLongProperty("long", Long.MIN_VALUE);
        producer.send(bytes, DeliveryMode.NON_PERSISTENT, 7, 60_000);
        BytesMessage came = (BytesMessage) consumer.receive(WAIT_MS);
        byte[] read = new byte[large.length];
        equal(came.readBytes(read), large.length);
        equal(java.util.Arrays.equals(read, large), true);
        equal(came.getByteProperty("byte") + " " + came.getDoubleProperty("double"), "-1 0.5");
        equal(came.getLongProperty("long"), Long.MIN_VALUE);
        equal(came.getJMSPriority() + " " + came.getJMSDeliveryMode(), 7 + " " + DeliveryMode.NON_PERSISTENT);
        equal(came.getJMSExpiration() > came.getJMSTimestamp(), true);
        MapMessage map = session.createMapMessage();
        map.setString("text", "x");
        map.setChar("char", 'c');
        map.setBytes("bytes", new byte[] {0, -1});
        producer.send(map);
        MapMessage second = (MapMessage) consumer.receive(WAIT_MS);
        equal(second.getString("text") + second.getChar("char") + second.getBytes("bytes").length, "xc2");
        StreamMessage stream = session.createStreamMessage();
        stream.writeShort((short) 5);
        stream.writeFloat(0.25f);
        stream.writeBoolean(true);
        producer.send(stream);
        StreamMessage third = (StreamMessage) consumer.receive(WAIT_MS);
        equal(third.readShort() + " " + third.readFloat() + " " + third.readBoolean(), "5 0.25 true");
        producer.send(session.createObjectMessage(new java.util.ArrayList<>(java.util.List.of("a", 1))));
        equal(((ObjectMessage) consumer.receive(WAIT_MS)).getObject(), java.util.List.of("a", 1));
        producer.send(session.createMessage());
        equal(consumer.receive(WAIT_MS) != null, true);
        session.close();
    }
}
