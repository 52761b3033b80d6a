// The client on the command line; exits with 2 where the server or this client says what is wrong.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "motoric.hpp"
#include "recording.hpp"

namespace {

constexpr const char* usage = "usage: models | show MODEL | predict MODEL FILE.csv";
constexpr std::size_t windows_a_request = 64;

motoric::Client make_client() {
    const char* key = std::getenv("MOTORIC_API_KEY");
    if (key == nullptr || *key == '\0') {
        throw motoric::Error("set MOTORIC_API_KEY: `motoric keys create` makes a key");
    }
    const char* url = std::getenv("MOTORIC_URL");
    return motoric::Client(url == nullptr ? "http://127.0.0.1:8000" : url, key);
}

// One line: start, end, label and its probability, then all classes, separated by tabs.
void print(double start_s, double end_s, const motoric::Prediction& prediction) {
    std::printf("%.2f\t%.2f", start_s, end_s);
    if (prediction.label) {
        std::printf("\t%s\t%.6f", prediction.label->c_str(), *prediction.probability);
    }
    if (prediction.value) {
        std::printf("\t%.6f", *prediction.value);
    }
    if (!prediction.unit.empty()) {
        std::printf("\t%s", prediction.unit.c_str());
    }
    for (const auto& [name, value] : prediction.parts) {
        std::printf("\t%s=%.6f", name.c_str(), value);
    }
    std::printf("\n");
}

void models() {
    for (const motoric::Model& model : make_client().models()) {
        std::printf("%s\t%d\n", model.name.c_str(), model.version);
    }
}

void show(const std::string& model) {
    const motoric::SensorInput sensors = make_client().sensors(model);
    std::printf("rate_hz %g, length_s %g, hop_s %g, context_s %g, channels", sensors.rate_hz,
                sensors.length_s, sensors.hop_s, sensors.context_s);
    for (const std::string& name : sensors.channels) {
        std::printf(" %s", name.c_str());
    }
    std::printf("\n");
}

void predict(const std::string& model, const std::string& file) {
    const motoric::Recording recording = motoric::read_recording(file);
    motoric::Client client = make_client();
    const motoric::SensorInput sensors = client.sensors(model);
    const std::vector<motoric::Window> windows = sensors.cut(recording.samples);
    if (windows.empty()) {
        throw motoric::Error(std::to_string(recording.samples.size()) +
                             " samples hold no window: one has " +
                             std::to_string(sensors.num_samples()));
    }
    for (std::size_t start = 0; start < windows.size(); start += windows_a_request) {
        const std::size_t stop = std::min(windows.size(), start + windows_a_request);
        const std::vector<motoric::Window> part(windows.begin() + start, windows.begin() + stop);
        double start_s = start * sensors.hop_samples() / sensors.rate_hz;
        for (const auto& prediction : client.predict(model, recording.channels, part)) {
            print(start_s, start_s + sensors.length_s, prediction);
            start_s += sensors.hop_samples() / sensors.rate_hz;
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const std::string command = arguments.empty() ? "" : arguments[0];
    try {
        if (command == "models" && arguments.size() == 1) {
            models();
        } else if (command == "show" && arguments.size() == 2) {
            show(arguments[1]);
        } else if (command == "predict" && arguments.size() == 3) {
            predict(arguments[1], arguments[2]);
        } else {
            throw motoric::Error(usage);
        }
    } catch (const motoric::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
