import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConnectionFactory;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;

/** Refusals as the Java client shows them. */
final class Errors {
    private Errors() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("absent_exchange", Errors::absentExchange);
        cases.put("absent_queue", Errors::absentQueue);
        cases.put("locked_queue", Errors::lockedQueue);
        cases.put("unknown_delivery_tag", Errors::unknownDeliveryTag);
        cases.put("bad_logins", Errors::badLogins);
        return cases;
    }

    private static void absentExchange(Session session) throws Exception {
        String name = Session.unique("absent");
        session.refused(404, "NOT_FOUND - no exchange '" + name + "' in vhost '/'",
                channel -> channel.basicPublish(name, "key", null, new byte[0]));
        session.refused(404, "NOT_FOUND - no exchange '" + name + "' in vhost '/'",
                channel -> channel.exchangeDeclarePassive(name));
    }

    private static void absentQueue(Session session) throws Exception {
        String name = Session.unique("absent");
        session.refused(404, "NOT_FOUND - no queue '" + name + "' in vhost '/'",
                channel -> channel.queueDeclarePassive(name));
    }

    private static void lockedQueue(Session session) throws Exception {
        String queue = Session.ownQueue(session.channel());
        try (Session other = new Session()) {
            other.refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + queue
                    + "' in vhost '/'. It could be originally declared on another connection or the exclusive property"
                    + " value does not match that of the original declaration.",
                    channel -> channel.queuePurge(queue));
        }
    }

    private static void unknownDeliveryTag(Session session) throws Exception {
        session.refused(406, "PRECONDITION_FAILED - unknown delivery tag 3", channel -> channel.basicAck(3, false));
    }

    private static void badLogins(Session session) throws Exception {
        ConnectionFactory wrongPassword = Session.factory();
        wrongPassword.setPassword("wrong");
        try {
            wrongPassword.newConnection().abort();
            throw new AssertionError("a wrong password was accepted");
        } catch (AuthenticationFailureException expected) {
            String text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.";
            Session.equal(expected.getMessage().startsWith(text), true);
        }
        ConnectionFactory elsewhere = Session.factory();
        elsewhere.setVirtualHost("nowhere");
        try {
            elsewhere.newConnection().abort();
            throw new AssertionError("an absent virtual host was opened");
        } catch (IOException expected) {
            Session.equal(String.valueOf(expected.getCause()).contains("vhost nowhere not found"), true);
        }
    }
}
