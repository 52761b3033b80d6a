// Asks models that Motoric serves, over HTTP by libcurl.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace motoric {

// What the server, or this client, says is wrong; for a person to read.
class Error : public std::runtime_error {
 public:
    explicit Error(const std::string& message, long status = 0)
        : std::runtime_error(message), status(status) {}

    const long status;  // of HTTP, or 0
};

// The server was not reached.
class ConnectionError : public std::runtime_error {
 public:
    using std::runtime_error::runtime_error;
};

using Sample = std::vector<float>;  // a value a channel
using Window = std::vector<Sample>;

// A released model.
struct Model {
    std::string name;
    int version = 0;
};

// Windows of sensors as a model takes them.
struct SensorInput {
    std::vector<std::string> channels;  // names
    double rate_hz = 0;
    double length_s = 0;   // of a window
    double hop_s = 0;      // from one window's start to the next
    double context_s = 0;  // before each window, sent with it for the model's filters

    std::size_t num_samples() const;  // of a window without its context
    std::size_t hop_samples() const;

    // All windows that a recording holds, each with its context; before the beginning the first
    // sample is repeated.
    std::vector<Window> cut(const std::vector<Sample>& samples) const;
};

// What a model says about a window: classes, a value or quantiles.
struct Prediction {
    std::optional<std::string> label;
    std::optional<double> probability;  // of the label
    std::optional<double> value;
    std::string unit;                                    // of the value or the quantiles
    std::vector<std::pair<std::string, double>> parts;  // probabilities by class, or quantiles
};

// For one thread: it keeps one connection open between requests. Every method throws Error with the
// detail of the server's problem document (RFC 9457), and ConnectionError; a 503 is tried again
// after the time that the server names.
class Client {
 public:
    // Where Motoric is, such as http://127.0.0.1:8000, and a key made by `motoric keys create`.
    Client(std::string url, std::string key);
    ~Client();
    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;

    // All released models.
    std::vector<Model> models();

    // What windows a model takes.
    SensorInput sensors(const std::string& model);

    // One prediction a window, in order. `channels` is the order of the values in a sample: all
    // that the model has, in any order.
    std::vector<Prediction> predict(const std::string& model,
                                    const std::vector<std::string>& channels,
                                    const std::vector<Window>& windows);

 private:
    class Http;
    std::unique_ptr<Http> http_;
};

}  // namespace motoric
