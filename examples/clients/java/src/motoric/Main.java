package motoric;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The client on the command line; exits with 2 where the server or this client says what is wrong. */
public final class Main {
    private static final String USAGE =
            "usage: models | show MODEL | predict MODEL FILE.csv | stream MODEL FILE.csv";
    private static final int WINDOWS_A_REQUEST = 64;
    private static final int SAMPLES_A_CHUNK = 25;

    private Main() {}

    /** See USAGE; MOTORIC_URL and MOTORIC_API_KEY come from the environment. */
    public static void main(String[] arguments) throws InterruptedException {
        try {
            run(List.of(arguments));
        } catch (MotoricException error) {
            System.err.println("error: " + error.getMessage());
            System.exit(2);
        } catch (IOException error) {
            System.err.println("error: " + error);
            System.exit(1);
        }
    }

    private static void run(List<String> arguments) throws IOException, InterruptedException {
        String command = arguments.isEmpty() ? "" : arguments.get(0);
        int num = arguments.size();
        if (command.equals("models") && num == 1) {
            models(client());
        } else if (command.equals("show") && num == 2) {
            System.out.println(client().sensors(arguments.get(1)));
        } else if (command.equals("predict") && num == 3) {
            predict(client(), arguments.get(1), Recording.read(Path.of(arguments.get(2))));
        } else if (command.equals("stream") && num == 3) {
            stream(client(), arguments.get(1), Recording.read(Path.of(arguments.get(2))));
        } else {
            throw new MotoricException(USAGE);
        }
    }

    private static MotoricClient client() {
        String key = System.getenv("MOTORIC_API_KEY");
        if (key == null || key.isEmpty()) {
            throw new MotoricException("set MOTORIC_API_KEY: `motoric keys create` makes a key");
        }
        String url = System.getenv().getOrDefault("MOTORIC_URL", "http://127.0.0.1:8000");
        return new MotoricClient(url, key);
    }

    private static void models(MotoricClient client) throws IOException, InterruptedException {
        for (Map<String, Object> model : client.models()) {
            System.out.println(model.get("model") + "\t" + model.get("version"));
        }
    }

    private static void predict(MotoricClient client, String model, Recording recording)
            throws IOException, InterruptedException {
        SensorInput sensors = client.sensors(model);
        List<List<float[]>> windows = sensors.windows(recording.samples());
        if (windows.isEmpty()) {
            throw new MotoricException(
                    String.format(
                            "%d samples hold no window: one has %d",
                            recording.samples().size(), sensors.numSamples()));
        }
        for (int start = 0; start < windows.size(); start += WINDOWS_A_REQUEST) {
            int stop = Math.min(windows.size(), start + WINDOWS_A_REQUEST);
            List<Map<String, Object>> predictions =
                    client.predict(model, recording.channels(), windows.subList(start, stop));
            for (int index = 0; index < predictions.size(); index++) {
                double startS = (start + index) * sensors.hopSamples() / sensors.rateHz();
                print(startS, startS + sensors.lengthS(), predictions.get(index));
            }
        }
    }

    private static void stream(MotoricClient client, String model, Recording recording)
            throws IOException, InterruptedException {
        double rateHz = client.sensors(model).rateHz();
        List<float[]> samples = recording.samples();
        try (LiveStream stream = client.stream(model, rateHz, recording.channels(), Main::print)) {
            // As they would come from a sensor, but for the time between them.
            for (int start = 0; start < samples.size(); start += SAMPLES_A_CHUNK) {
                int stop = Math.min(samples.size(), start + SAMPLES_A_CHUNK);
                stream.send(samples.subList(start, stop));
            }
            stream.finish();
        }
    }

    private static void print(Map<String, Object> prediction) {
        print(
                Json.number(prediction.get("start_s")),
                Json.number(prediction.get("end_s")),
                prediction);
    }

    /** One line: start, end, label and its probability, then all classes, separated by tabs. */
    private static void print(double startS, double endS, Map<String, Object> prediction) {
        List<String> cells = new ArrayList<>();
        cells.add(String.format(Locale.ROOT, "%.2f\t%.2f", startS, endS));
        for (String name : List.of("label", "probability", "value", "unit")) {
            if (prediction.containsKey(name)) {
                cells.add(shown(prediction.get(name)));
            }
        }
        for (String name : List.of("probabilities", "quantiles")) {
            if (prediction.containsKey(name)) {
                Json.map(prediction.get(name))
                        .forEach((part, value) -> cells.add(part + "=" + shown(value)));
            }
        }
        System.out.println(String.join("\t", cells));
    }

    private static String shown(Object value) {
        return value instanceof Number
                ? String.format(Locale.ROOT, "%.6f", Json.number(value))
                : String.valueOf(value);
    }
}
