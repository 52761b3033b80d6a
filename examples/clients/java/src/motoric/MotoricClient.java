package motoric;

import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Asks models that Motoric serves. Needs nothing beyond the JDK (17 or later).
 *
 * <p>An instance may be shared by threads. Every method that asks the server throws {@link
 * MotoricException} with the detail of the server's problem document, and IOException where the
 * server is not reached; a 503 is tried again after the time that the server names.
 */
public final class MotoricClient {
    private static final int MAX_TRIES = 6;
    private static final long MAX_PAUSE_S = 30;

    private final HttpClient http =
            HttpClient.newBuilder()
                    .version(HttpClient.Version.HTTP_1_1)
                    .connectTimeout(Duration.ofSeconds(10))
                    .build();
    private final String url;
    private final String key;

    /**
     * Makes a client.
     *
     * @param url where Motoric is, such as http://127.0.0.1:8000
     * @param key an API key, made by `motoric keys create`
     */
    public MotoricClient(String url, String key) {
        this.url = url.replaceAll("/+$", "");
        this.key = key;
    }

    /** All released models with their signatures. */
    public List<Map<String, Object>> models() throws IOException, InterruptedException {
        List<Map<String, Object>> found = new ArrayList<>();
        Json.list(get("/v1/models").get("models")).forEach(model -> found.add(Json.map(model)));
        return found;
    }

    /** What windows a model takes. */
    public SensorInput sensors(String model) throws IOException, InterruptedException {
        Map<String, Object> signature = Json.map(get(base(model)).get("signature"));
        for (Object input : Json.list(signature.get("inputs"))) {
            if ("sensor".equals(Json.map(input).get("kind"))) {
                return SensorInput.of(Json.map(input));
            }
        }
        throw new MotoricException("model " + model + " takes no windows of sensors");
    }

    /**
     * Asks for predictions.
     *
     * @param model its name
     * @param channels the order of the channels in `windows`; all that the model has, in any order
     * @param windows each with its samples, each of these with a value a channel
     * @return what the model says about each window: label, probability, probabilities; or value;
     *     or quantiles
     */
    public List<Map<String, Object>> predict(
            String model, List<String> channels, List<List<float[]>> windows)
            throws IOException, InterruptedException {
        int numSamples = windows.stream().mapToInt(List::size).sum();
        ByteBuffer body = ByteBuffer.allocate(Float.BYTES * numSamples * channels.size());
        body.order(ByteOrder.LITTLE_ENDIAN);
        for (List<float[]> window : windows) {
            for (float[] sample : window) {
                for (float value : sample) {
                    body.putFloat(value);
                }
            }
        }
        String path = base(model) + "/predict?channels=" + escaped(String.join(",", channels));
        HttpRequest request =
                request(path)
                        .header("Content-Type", "application/octet-stream")
                        .header("Accept", "application/json")
                        .POST(HttpRequest.BodyPublishers.ofByteArray(body.array()))
                        .build();
        List<Map<String, Object>> found = new ArrayList<>();
        Json.list(send(request).get("predictions")).forEach(item -> found.add(Json.map(item)));
        return found;
    }

    /**
     * Opens a live stream.
     *
     * @param model its name
     * @param rateHz rate of the samples
     * @param channels order of their channels
     * @param onPrediction called with each prediction, in order, each once
     */
    public LiveStream stream(
            String model,
            double rateHz,
            List<String> channels,
            Consumer<Map<String, Object>> onPrediction)
            throws InterruptedException {
        URI uri = URI.create("ws" + url.substring("http".length()) + base(model) + "/stream");
        return new LiveStream(http, uri, key, rateHz, channels, onPrediction);
    }

    private Map<String, Object> get(String path) throws IOException, InterruptedException {
        return send(request(path).GET().build());
    }

    private HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(url + path))
                .timeout(Duration.ofSeconds(60))
                .header("Authorization", "Bearer " + key);
    }

    private Map<String, Object> send(HttpRequest request) throws IOException, InterruptedException {
        for (int numTries = 1; ; numTries++) {
            HttpResponse<String> response =
                    http.send(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
            if (response.statusCode() == 200) {
                return Json.object(response.body());
            }
            if (response.statusCode() != 503 || numTries == MAX_TRIES) {
                throw MotoricException.of(response);
            }
            Thread.sleep(1000 * pauseS(response));
        }
    }

    private static long pauseS(HttpResponse<String> response) {
        String after = response.headers().firstValue("Retry-After").orElse("");
        return after.matches("\\d{1,6}") ? Math.min(Long.parseLong(after), MAX_PAUSE_S) : 1;
    }

    private static String base(String model) {
        return "/v1/models/" + escaped(model);
    }

    private static String escaped(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }
}
