import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The four types, bindings between exchanges, alternate exchanges. */
final class Exchanges {
    private Exchanges() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("direct_and_fanout", Exchanges::directAndFanout);
        cases.put("topic", Exchanges::topic);
        cases.put("headers", Exchanges::headers);
        cases.put("exchange_to_exchange", Exchanges::exchangeToExchange);
        cases.put("alternate_exchange", Exchanges::alternateExchange);
        return cases;
    }

    private static void directAndFanout(Session session) throws Exception {
        Channel channel = session.channel();
        String direct = Session.ownExchange(channel, "direct");
        String fanout = Session.ownExchange(channel, "fanout");
        String first = Session.ownQueue(channel);
        String second = Session.ownQueue(channel);
        channel.queueBind(first, direct, "one");
        channel.queueBind(second, direct, "two");
        channel.queueBind(first, fanout, "");
        channel.queueBind(second, fanout, "");
        Session.publish(channel, direct, "one", "direct");
        Session.publish(channel, fanout, "one", "fanout");
        Session.equal(Session.drain(channel, first), List.of("direct", "fanout"));
        Session.equal(Session.drain(channel, second), List.of("fanout"));
    }

    private static void topic(Session session) throws Exception {
        Channel channel = session.channel();
        String exchange = Session.ownExchange(channel, "topic");
        Map<String, List<String>> keysByPattern = new LinkedHashMap<>();
        keysByPattern.put("#", List.of("", "a", "a.b", "a.b.c", "..", "b.a"));
        keysByPattern.put("*", List.of("a"));
        keysByPattern.put("a.#", List.of("a", "a.b", "a.b.c"));
        keysByPattern.put("#.b.#", List.of("a.b", "a.b.c", "b.a"));
        keysByPattern.put("*.*", List.of("a.b", "b.a"));
        keysByPattern.put("", List.of(""));
        Map<String, String> queues = new LinkedHashMap<>();
        for (String pattern : keysByPattern.keySet()) {
            queues.put(pattern, Session.ownQueue(channel));
            if (pattern.isEmpty()) {
                // An empty key beside a named queue stays empty.
                channel.queueBind(queues.get(pattern), exchange, "", Map.of());
            } else {
                channel.queueBind(queues.get(pattern), exchange, pattern);
            }
        }
        for (String key : List.of("", "a", "a.b", "a.b.c", "..", "b.a")) {
            Session.publish(channel, exchange, key, key);
            for (Map.Entry<String, String> entry : queues.entrySet()) {
                boolean routed = keysByPattern.get(entry.getKey()).contains(key);
                List<String> wanted = routed ? List.of(key) : List.of();
                Session.equal(entry.getKey() + Session.drain(channel, entry.getValue()), entry.getKey() + wanted);
            }
        }
    }

    private static void headers(Session session) throws Exception {
        Channel channel = session.channel();
        String exchange = Session.ownExchange(channel, "headers");
        String all = Session.ownQueue(channel);
        String any = Session.ownQueue(channel);
        channel.queueBind(all, exchange, "", Map.of("x-match", "all", "a", 1, "b", "two"));
        channel.queueBind(any, exchange, "", Map.of("x-match", "any", "a", 1, "b", "two"));
        // The width of an integer does not matter, its being one does.
        for (Object one : new Object[] {1, 1L, (short) 1, (byte) 1}) {
            publish(channel, exchange, Map.of("a", one, "b", "two"));
            Session.equal(Session.drain(channel, all).size() + " " + Session.drain(channel, any).size(), "1 1");
        }
        publish(channel, exchange, Map.of("a", "1", "b", "two"));
        Session.equal(Session.drain(channel, all).size() + " " + Session.drain(channel, any).size(), "0 1");
        publish(channel, exchange, Map.of("a", "1"));
        Session.equal(Session.drain(channel, all).size() + " " + Session.drain(channel, any).size(), "0 0");
    }

    private static void publish(Channel channel, String exchange, Map<String, Object> headers) throws Exception {
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(headers).build();
        Session.publish(channel, exchange, "", properties, new byte[0]);
    }

    private static void exchangeToExchange(Session session) throws Exception {
        Channel channel = session.channel();
        String source = Session.ownExchange(channel, "headers");
        String destination = Session.ownExchange(channel, "topic");
        String queue = Session.ownQueue(channel);
        channel.exchangeBind(destination, source, "", Map.of("a", 1));
        channel.queueBind(queue, destination, "#");
        publish(channel, source, Map.of("a", 1));
        publish(channel, source, Map.of("a", 2));
        Session.equal(Session.drain(channel, queue).size(), 1);
    }

    private static void alternateExchange(Session session) throws Exception {
        Channel channel = session.channel();
        String alternate = Session.ownExchange(channel, "fanout");
        String caught = Session.ownQueue(channel);
        channel.queueBind(caught, alternate, "");
        String first = Session.unique("first");
        channel.exchangeDeclare(first, "topic", false, false, Map.of("alternate-exchange", alternate));
        Session.publish(channel, first, "nobody", "x");
        Session.equal(Session.drain(channel, caught), List.of("x"));
        channel.exchangeDelete(first);
    }
}
