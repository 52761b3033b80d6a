package motoric;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * A live stream that outlives its connections.
 *
 * <p>Samples are numbered, and kept until the server acknowledges that it does not need them any
 * more. After a dropped connection all that are kept are sent again, to whichever server answers,
 * together with the last `resume` of the server; so no prediction is missing and none comes twice.
 *
 * <p>For one thread: predictions are handed over inside of {@link #send} and {@link #finish}.
 */
public final class LiveStream implements AutoCloseable {
    private static final byte[] MAGIC = "MOT1".getBytes(StandardCharsets.US_ASCII);
    private static final int HEADER_BYTES = 24;
    private static final int TRY_AGAIN = 503;
    private static final int MAX_FAILURES = 8;
    private static final long ANSWER_TIMEOUT_S = 15;
    // Close codes after which another connection can go on.
    private static final Set<Integer> RESUMABLE =
            Set.of(1001, 1006, 1011, 1012, 1013, 4408, 4429);

    private final HttpClient http;
    private final URI uri;
    private final String key;
    private final double rateHz;
    private final List<String> channels;
    private final Consumer<Map<String, Object>> onPrediction;

    private final List<float[]> held = new ArrayList<>();
    private long first; // number of the first sample held
    private long next; // number of the sample that this connection sends next
    private long nextPrediction;
    private Object resume; // as the server sent it last
    private boolean isEnding;
    private boolean isEnded;
    private int numFailures; // in a row, without a prediction

    private Connection connection;
    private int maxChunk;

    LiveStream(
            HttpClient http,
            URI uri,
            String key,
            double rateHz,
            List<String> channels,
            Consumer<Map<String, Object>> onPrediction)
            throws InterruptedException {
        this.http = http;
        this.uri = uri;
        this.key = key;
        this.rateHz = rateHz;
        this.channels = List.copyOf(channels);
        this.onPrediction = onPrediction;
        go(() -> {});
    }

    /**
     * Sends the next samples, each with a value a channel; NaN is a missing value.
     *
     * @throws MotoricException the server refuses them, or cannot be reached for long
     */
    public void send(List<float[]> samples) throws InterruptedException {
        held.addAll(samples);
        go(
                () -> {
                    transmit();
                    for (String frame; (frame = connection.poll()) != null; ) {
                        take(frame);
                    }
                });
    }

    /** Tells that no more samples come, and waits for the last prediction. */
    public void finish() throws InterruptedException {
        isEnding = true;
        go(
                () -> {
                    transmit();
                    connection.send("{\"type\":\"end\"}");
                    while (!isEnded) {
                        take(connection.receive());
                    }
                });
        close();
    }

    /** Leaves; without {@link #finish} the predictions to come are lost. */
    @Override
    public void close() {
        if (connection != null) {
            connection.close();
        }
    }

    /** Numbers of connections are not limited, those in a row that bring nothing are. */
    private void go(Step step) throws InterruptedException {
        while (true) {
            try {
                if (connection == null) {
                    connect();
                }
                step.run();
                return;
            } catch (ClosedException closed) {
                close();
                connection = null;
                if (!RESUMABLE.contains(closed.code) || ++numFailures >= MAX_FAILURES) {
                    throw new MotoricException(closed.getMessage());
                }
                Thread.sleep(Math.min(100L << numFailures, 5000));
            }
        }
    }

    private void connect() throws ClosedException, InterruptedException {
        connection = new Connection(http, uri, key);
        next = first;
        Map<String, Object> open = new LinkedHashMap<>();
        open.put("type", "open");
        open.put("rate_hz", rateHz);
        open.put("channels", channels);
        if (resume != null) {
            open.put("resume", resume);
        }
        connection.send(Json.write(open));
        take(connection.receive());
    }

    private void transmit() throws ClosedException {
        while (next < first + held.size()) {
            int start = (int) (next - first);
            int num = Math.min(held.size() - start, maxChunk);
            ByteBuffer chunk =
                    ByteBuffer.allocate(HEADER_BYTES + Float.BYTES * num * channels.size());
            chunk.order(ByteOrder.LITTLE_ENDIAN).put(MAGIC).putInt(0).putLong(next);
            chunk.putInt(num).putInt(channels.size());
            for (float[] sample : held.subList(start, start + num)) {
                for (float value : sample) {
                    chunk.putFloat(value);
                }
            }
            // The JDK masks whole longs, and swaps the bytes of a buffer that is little-endian.
            connection.send(chunk.flip().order(ByteOrder.BIG_ENDIAN));
            next += num;
        }
    }

    private void take(String frame) throws ClosedException {
        Map<String, Object> reply = Json.object(frame);
        switch (String.valueOf(reply.get("type"))) {
            case "opened" -> {
                expect(Json.whole(reply.get("next_sample")) == first, frame);
                expect(Json.whole(reply.get("next_prediction")) == nextPrediction, frame);
                double maxSamples = Json.number(reply.get("max_chunk_s")) * rateHz;
                long limit = Json.whole(reply.get("max_chunk"));
                maxChunk = (int) Math.max(1, Math.min(limit, (long) maxSamples));
            }
            case "prediction" -> {
                expect(Json.whole(reply.get("number")) == nextPrediction, frame);
                nextPrediction++;
                forget(reply, frame);
                numFailures = 0;
                onPrediction.accept(reply);
            }
            case "acknowledged" -> forget(reply, frame);
            case "ended" -> {
                expect(isEnding && next == first + held.size(), frame);
                expect(Json.whole(reply.get("num_predictions")) == nextPrediction, frame);
                isEnded = true;
            }
            case "error" ->
                    throw new ClosedException(
                            (int) Json.whole(reply.get("code")), reply.get("detail").toString());
            default -> {} // a newer server may say more
        }
    }

    private void forget(Map<String, Object> reply, String frame) {
        Map<String, Object> place = Json.map(reply.get("resume"));
        long replayFrom = Json.whole(place.get("replay_from"));
        expect(Json.whole(place.get("next_prediction")) == nextPrediction, frame);
        expect(first <= replayFrom && replayFrom <= next, frame);
        held.subList(0, (int) (replayFrom - first)).clear();
        first = replayFrom;
        resume = place;
    }

    private static void expect(boolean isTrue, String frame) {
        if (!isTrue) {
            throw new MotoricException("the server's message does not fit the stream: " + frame);
        }
    }

    private interface Step {
        void run() throws ClosedException, InterruptedException;
    }

    /** A connection is over. */
    private static final class ClosedException extends Exception {
        private static final long serialVersionUID = 1;

        private final int code;

        ClosedException(int code, String message) {
            super(message);
            this.code = code;
        }
    }

    /** One WebSocket, as a queue of what comes. */
    private static final class Connection implements WebSocket.Listener {
        private final BlockingQueue<Object> received = new LinkedBlockingQueue<>();
        private final StringBuilder partial = new StringBuilder();
        private final WebSocket socket;

        Connection(HttpClient http, URI uri, String key) throws ClosedException {
            try {
                socket =
                        http.newWebSocketBuilder()
                                .header("Authorization", "Bearer " + key)
                                .buildAsync(uri, this)
                                .orTimeout(ANSWER_TIMEOUT_S, TimeUnit.SECONDS)
                                .join();
            } catch (CompletionException error) {
                if (error.getCause() instanceof WebSocketHandshakeException refused
                        && refused.getResponse().statusCode() != TRY_AGAIN) {
                    throw MotoricException.of(refused.getResponse());
                }
                throw new ClosedException(1006, "the stream does not open: " + error.getCause());
            }
        }

        void send(String text) throws ClosedException {
            await(socket.sendText(text, true));
        }

        void send(ByteBuffer bytes) throws ClosedException {
            await(socket.sendBinary(bytes, true));
        }

        /** The next frame, or null if none has come. */
        String poll() throws ClosedException {
            return frame(received.poll());
        }

        String receive() throws ClosedException, InterruptedException {
            Object item = received.poll(ANSWER_TIMEOUT_S, TimeUnit.SECONDS);
            if (item == null) {
                throw new ClosedException(1006, "the server says nothing");
            }
            return frame(item);
        }

        void close() {
            socket.abort();
        }

        private void await(CompletionStage<WebSocket> sent) throws ClosedException {
            try {
                sent.toCompletableFuture().orTimeout(ANSWER_TIMEOUT_S, TimeUnit.SECONDS).join();
            } catch (CompletionException error) {
                // Why the server has closed says more than that nothing can be sent.
                for (Object item; (item = received.poll()) != null; ) {
                    if (item instanceof ClosedException closed) {
                        throw closed;
                    }
                    if (item.toString().contains("\"type\":\"error\"")) {
                        Map<String, Object> reply = Json.object(item.toString());
                        int code = (int) Json.whole(reply.get("code"));
                        throw new ClosedException(code, reply.get("detail").toString());
                    }
                }
                throw new ClosedException(1006, "the connection was lost: " + error.getCause());
            }
        }

        private static String frame(Object item) throws ClosedException {
            if (item instanceof ClosedException closed) {
                throw closed;
            }
            return (String) item;
        }

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean isLast) {
            partial.append(data);
            if (isLast) {
                received.add(partial.toString());
                partial.setLength(0);
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            String why = "the server closed the stream with code " + code + " " + reason;
            received.add(new ClosedException(code, why.strip()));
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            received.add(new ClosedException(1006, "the connection was lost: " + error));
        }
    }
}
