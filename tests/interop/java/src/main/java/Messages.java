import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** Publish, consume, get, acknowledge, confirm, return. */
final class Messages {
    private Messages() {}

    static Map<String, Main.Case> cases() {
        Map<String, Main.Case> cases = new LinkedHashMap<>();
        cases.put("properties_come_back", Messages::propertiesComeBack);
        cases.put("a_thousand_in_order", Messages::aThousandInOrder);
        cases.put("one_mebibyte", Messages::oneMebibyte);
        cases.put("nacked_comes_again", Messages::nackedComesAgain);
        cases.put("recover_brings_all_back", Messages::recoverBringsAllBack);
        cases.put("prefetch_holds_the_rest_back", Messages::prefetchHoldsTheRestBack);
        cases.put("returned_before_its_confirm", Messages::returnedBeforeItsConfirm);
        cases.put("cancelled_by_the_broker", Messages::cancelledByTheBroker);
        cases.put("replies_come_without_a_queue", Messages::repliesComeWithoutAQueue);
        cases.put("many_channels", Messages::manyChannels);
        return cases;
    }

    private static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean automatic) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, automatic, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        return deliveries;
    }

    private static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    private static void propertiesComeBack(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        Map<String, Object> headers = new HashMap<>();
        headers.put("int", 1);
        headers.put("long", -1L);
        headers.put("short", (short) -300);
        headers.put("byte", (byte) -3);
        headers.put("float", 0.5f);
        headers.put("double", 2.5);
        headers.put("yes", true);
        headers.put("nothing", null);
        headers.put("date", new Date(1_700_000_000_000L));
        headers.put("list", List.of(1, 2L));
        headers.put("table", Map.of("inner", 5));
        AMQP.BasicProperties sent = new AMQP.BasicProperties.Builder()
                .contentType("text/plain").contentEncoding("utf-8").headers(headers).deliveryMode(2).priority(3)
                .correlationId("c").replyTo("r").expiration("600000").messageId("m")
                .timestamp(new Date(1_700_000_000_000L)).type("t").userId("guest").appId("a").clusterId("k")
                .build();
        Session.publish(channel, "", queue, sent, new byte[] {1, 2, 3});
        GetResponse got = channel.basicGet(queue, true);
        Session.equal(got.getProps(), sent);
        Session.equal(got.getBody(), new byte[] {1, 2, 3});
    }

    private static void aThousandInOrder(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        channel.basicQos(100);
        BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
        for (int number = 0; number < 1000; number++) {
            channel.basicPublish("", queue, null, Integer.toString(number).getBytes(StandardCharsets.UTF_8));
        }
        for (int number = 0; number < 1000; number++) {
            Delivery delivery = Session.take(deliveries, "a delivery");
            Session.equal(text(delivery.getBody()), Integer.toString(number));
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        }
        channel.waitForConfirmsOrDie(Session.EVENT_WAIT_MAX_SECONDS * 1000L);
    }

    private static void oneMebibyte(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        byte[] body = new byte[1 << 20];
        for (int place = 0; place < body.length; place++) {
            body[place] = (byte) (place % 251);
        }
        Session.publish(channel, "", queue, null, body);
        Delivery delivery = Session.take(consume(channel, queue, true), "the delivery");
        Session.equal(Arrays.equals(delivery.getBody(), body), true);
    }

    private static void nackedComesAgain(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        Session.publish(channel, "", queue, "x");
        channel.basicNack(channel.basicGet(queue, false).getEnvelope().getDeliveryTag(), false, true);
        GetResponse again = channel.basicGet(queue, false);
        Session.equal(again.getEnvelope().isRedeliver(), true);
        channel.basicReject(again.getEnvelope().getDeliveryTag(), false);
        Session.equal(channel.basicGet(queue, true), null);
    }

    private static void recoverBringsAllBack(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        Session.publish(channel, "", queue, "1");
        Session.publish(channel, "", queue, "2");
        channel.basicGet(queue, false);
        channel.basicGet(queue, false);
        channel.basicRecover(true);
        Session.equal(Session.drain(channel, queue), List.of("1", "2"));
    }

    private static void prefetchHoldsTheRestBack(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        for (int count = 0; count < 5; count++) {
            Session.publish(channel, "", queue, "x");
        }
        channel.basicQos(2);
        BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
        Session.take(deliveries, "the first");
        Delivery second = Session.take(deliveries, "the second");
        Session.equal(channel.messageCount(queue), 3L);
        channel.basicAck(second.getEnvelope().getDeliveryTag(), true);
        Session.take(deliveries, "the third");
        Session.take(deliveries, "the fourth");
        Session.equal(channel.messageCount(queue), 1L);
    }

    private static void returnedBeforeItsConfirm(Session session) throws Exception {
        Channel channel = session.channel();
        BlockingQueue<String> order = new LinkedBlockingQueue<>();
        String key = Session.unique("nobody");
        channel.addReturnListener(returned -> order.add(returned.getReplyCode() + " " + returned.getReplyText() + " "
                + returned.getRoutingKey() + " " + text(returned.getBody())));
        channel.addConfirmListener((tag, multiple) -> order.add("ack"), (tag, multiple) -> order.add("nack"));
        channel.basicPublish("amq.direct", key, true, null, "x".getBytes(StandardCharsets.UTF_8));
        List<String> came = new ArrayList<>();
        came.add(Session.take(order, "the return"));
        came.add(Session.take(order, "the confirm"));
        Session.equal(came, List.of("312 NO_ROUTE " + key + " x", "ack"));
    }

    private static void cancelledByTheBroker(Session session) throws Exception {
        Channel channel = session.channel();
        String queue = Session.ownQueue(channel);
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, true, "mine", (tag, delivery) -> {}, cancelled::add);
        session.connection.createChannel().queueDelete(queue);
        Session.equal(Session.take(cancelled, "basic.cancel"), "mine");
    }

    private static void repliesComeWithoutAQueue(Session session) throws Exception {
        Channel serving = session.channel();
        String queue = Session.ownQueue(serving);
        serving.basicConsume(queue, true, (tag, request) -> {
            AMQP.BasicProperties asked = request.getProperties();
            AMQP.BasicProperties properties =
                    new AMQP.BasicProperties.Builder().correlationId(asked.getCorrelationId()).build();
            byte[] answer = (text(request.getBody()) + "!").getBytes(StandardCharsets.UTF_8);
            serving.basicPublish("", asked.getReplyTo(), true, properties, answer);
        }, tag -> {});
        // Where nothing else is said, the client asks by direct reply-to.
        RpcClientParams params = new RpcClientParams().channel(session.channel()).exchange("").routingKey(queue)
                .timeout(1000 * Session.EVENT_WAIT_MAX_SECONDS);
        RpcClient client = new RpcClient(params);
        for (int number = 0; number < 100; number++) {
            Session.equal(client.stringCall("ask " + number), "ask " + number + "!");
        }
        client.close();
    }

    private static void manyChannels(Session session) throws Exception {
        List<Channel> channels = new ArrayList<>();
        for (int count = 0; count < 200; count++) {
            channels.add(session.channel());
        }
        for (Channel channel : channels) {
            String queue = Session.ownQueue(channel);
            Session.publish(channel, "", queue, queue);
            Session.equal(Session.drain(channel, queue), List.of(queue));
        }
        for (Channel channel : channels) {
            channel.close();
        }
    }
}
