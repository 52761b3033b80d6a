package motoric;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Windows of sensors as a model takes them.
 *
 * @param rateHz samples a second
 * @param lengthS length of a window
 * @param hopS from one window's start to the next
 * @param contextS time before each window that is sent with it, for the model's filters
 */
public record SensorInput(double rateHz, double lengthS, double hopS, double contextS) {

    static SensorInput of(Map<String, Object> input) {
        return new SensorInput(
                Json.number(input.get("rate_hz")),
                Json.number(input.get("length_s")),
                Json.number(input.get("hop_s")),
                Json.number(input.get("context_s")));
    }

    /** Samples of a window without its context. */
    public int numSamples() {
        return samples(lengthS);
    }

    /** Samples from one window to the next. */
    public int hopSamples() {
        return Math.max(1, samples(hopS));
    }

    /**
     * Cuts a recording into all windows that it holds, each with its context; before the beginning
     * the first sample is repeated.
     */
    public List<List<float[]>> windows(List<float[]> samples) {
        List<List<float[]>> windows = new ArrayList<>();
        for (int start = 0; start + numSamples() <= samples.size(); start += hopSamples()) {
            List<float[]> window = new ArrayList<>();
            for (int row = start - samples(contextS); row < start + numSamples(); row++) {
                window.add(samples.get(Math.max(row, 0)));
            }
            windows.add(window);
        }
        return windows;
    }

    private int samples(double lengthS) {
        return (int) Math.rint(lengthS * rateHz);
    }
}
