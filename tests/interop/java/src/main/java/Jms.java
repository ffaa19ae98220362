import com.rabbitmq.client.Channel;
import jakarta.jms.Connection;
import jakarta.jms.InvalidSelectorException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
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
}
