import java.util.Map;
import java.util.function.Supplier;

/**
 * Runs one suite of cases against the broker that AMQP_URL names.
 *
 * <p>Prints {@code ok NAME} or {@code FAIL NAME: why} for each case; the exit code is 1 when a case failed.
 */
public final class Main {
    private static final Map<String, Supplier<Map<String, Case>>> SUITES =
            Map.of(
                    "messages", Messages::cases, "exchanges", Exchanges::cases, "errors", Errors::cases,
                    "recovery", Recovery::cases, "amqp10", Amqp10::cases, "jms", Jms::cases,
                    "jms_failover", JmsFailover::cases);

    private Main() {}

    /** One case, run with a new connection. */
    interface Case {
        void run(Session session) throws Exception;
    }

    public static void main(String[] arguments) {
        if (arguments.length != 1 || !SUITES.containsKey(arguments[0])) {
            System.err.println("usage: Main messages|exchanges|errors|recovery|amqp10|jms|jms_failover");
            System.exit(2);
        }
        boolean failed = false;
        for (Map.Entry<String, Case> entry : SUITES.get(arguments[0]).get().entrySet()) {
            try (Session session = new Session()) {
                entry.getValue().run(session);
                System.out.println("ok " + entry.getKey());
            } catch (Exception | AssertionError error) {
                failed = true;
                System.out.println("FAIL " + entry.getKey() + ": " + error);
                error.printStackTrace();
            }
        }
        // The client's threads are no reason to go on.
        System.exit(failed ? 1 : 0);
    }
}
