import com.rabbitmq.client.Channel;
import jakarta.jms.Connection;
import jakarta.jms.JMSException;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.TextMessage;
import jakarta.jms.TransactionRolledBackException;
import java.net.URI;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.qpid.jms.JmsConnectionFactory;

/** Qpid JMS's failover: what a connection has is made again on the next one. */
final class JmsFailover {
    private static final long WAIT_MS = Session.EVENT_WAIT_MAX_SECONDS * 1000L;

    private JmsFailover() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("producers and consumers go on after outages", session -> dial(session, JmsFailover::goesOn));
        cases.put("a transaction that an outage ends is rolled back", session -> dial(session, JmsFailover::rollsBack));
        return cases;
    }

    private interface Body {
        void run(Connection connection, String queue) throws Exception;
    }

    private static void dial(Session session, Body body) throws Exception {
        URI url = new URI(System.getenv("AMQP_URL"));
        String place = "amqp://" + url.getHost() + ":" + url.getPort() + "?amqp.saslMechanisms=PLAIN";
        JmsConnectionFactory factory =
                new JmsConnectionFactory("failover:(" + place + ")?failover.initialReconnectDelay=50"
                        + "&failover.reconnectDelay=100&failover.useReconnectBackOff=false");
        String[] user = url.getUserInfo().split(":");
        String queue = Session.unique("failover");
        Channel channel = session.channel();
        channel.queueDeclare(queue, true, false, false, Map.of("x-queue-type", "quorum"));
        try (Connection connection = factory.createConnection(user[0], user[1])) {
            connection.start();
            body.run(connection, queue);
        }
    }

    private static String next(MessageConsumer consumer) throws JMSException {
        TextMessage message = (TextMessage) consumer.receive(WAIT_MS);
        return message == null ? "nothing" : message.getText();
    }

    private static void goesOn(Connection connection, String queue) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue("/queues/" + queue));
        MessageConsumer consumer = session.createConsumer(session.createQueue("/queues/" + queue));
        for (String kind : new String[] {"cut", "restart", "kill", "cut"}) {
            producer.send(session.createTextMessage(kind));
            // One whose outcome was lost comes again before it.
            String came = next(consumer);
            while (!came.equals(kind) && !came.equals("nothing")) {
                came = next(consumer);
            }
            Session.equal(came, kind);
            Recovery.outage(kind);
        }
        session.close();
    }

    private static void rollsBack(Connection connection, String queue) throws Exception {
        jakarta.jms.Session session = connection.createSession(jakarta.jms.Session.SESSION_TRANSACTED);
        MessageProducer producer = session.createProducer(session.createQueue("/queues/" + queue));
        for (String kind : new String[] {"cut", "kill"}) {
            producer.send(session.createTextMessage("never"));
            Recovery.outage(kind);
            Session.equal(commits(session), false);
            // What is sent from now on is of a new one; the client may notice the outage only now.
            do {
                producer.send(session.createTextMessage(kind));
            } while (!commits(session));
        }
        MessageConsumer consumer = session.createConsumer(session.createQueue("/queues/" + queue));
        Session.equal(next(consumer) + " " + next(consumer), "cut kill");
        Session.equal(consumer.receiveNoWait() == null, true);
        session.commit();
        session.close();
    }

    /** Commits; gives whether that was not rolled back instead. */
    private static boolean commits(jakarta.jms.Session session) throws JMSException {
        try {
            session.commit();
            return true;
        } catch (TransactionRolledBackException rolledBack) {
            return false;
        }
    }
}
