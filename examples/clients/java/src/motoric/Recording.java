package motoric;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The samples of a CSV file: its first line names the channels, each further line is a sample.
 *
 * @param channels names, without the column time_s, which is not sent
 * @param samples one array a sample, one value a channel; NaN where a cell is empty
 */
record Recording(List<String> channels, List<float[]> samples) {
    private static final String TIME = "time_s";

    static Recording read(Path file) throws IOException {
        List<String> lines = Files.readAllLines(file);
        if (lines.isEmpty()) {
            throw new MotoricException(file + " is empty: its first line must name the channels");
        }
        List<String> names = Arrays.stream(lines.get(0).split(",")).map(String::strip).toList();
        List<float[]> samples = new ArrayList<>();
        for (int line = 1; line < lines.size(); line++) {
            if (!lines.get(line).isBlank()) {
                samples.add(sample(lines.get(line), names, file + " line " + (line + 1)));
            }
        }
        List<String> channels = names.stream().filter(name -> !name.equals(TIME)).toList();
        return new Recording(channels, samples);
    }

    private static float[] sample(String line, List<String> names, String where) {
        String[] cells = line.split(",", -1);
        if (cells.length != names.size()) {
            throw new MotoricException(
                    where + " has " + cells.length + " cells, the first line " + names.size());
        }
        float[] values = new float[names.size() - (names.contains(TIME) ? 1 : 0)];
        int next = 0;
        for (int column = 0; column < cells.length; column++) {
            if (names.get(column).equals(TIME)) {
                continue;
            }
            String cell = cells[column].strip();
            try {
                values[next++] = cell.isEmpty() ? Float.NaN : Float.parseFloat(cell);
            } catch (NumberFormatException error) {
                throw new MotoricException(where + " holds '" + cell + "', which is no number");
            }
        }
        return values;
    }
}
