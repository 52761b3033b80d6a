#include "motoric.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

namespace motoric {
namespace {

using Json = nlohmann::ordered_json;  // classes stay in the order of the model

constexpr int max_tries = 6;
constexpr long max_pause_s = 30;
constexpr long timeout_s = 60;
constexpr long try_again = 503;

std::size_t round_samples(double length_s, double rate_hz) {
    return static_cast<std::size_t>(std::lround(length_s * rate_hz));
}

std::size_t append(char* data, std::size_t size, std::size_t count, void* body) {
    static_cast<std::string*>(body)->append(data, size * count);
    return size * count;
}

// Little-endian, whatever this machine is.
void put_float(std::string& body, float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    for (int shift = 0; shift < 32; shift += 8) {
        body.push_back(static_cast<char>(bits >> shift & 0xff));
    }
}

std::string joined(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) {
        list += (list.empty() ? "" : ",") + name;
    }
    return list;
}

Prediction read_prediction(const Json& item) {
    Prediction prediction;
    if (item.contains("label")) {
        prediction.label = item.at("label").get<std::string>();
        prediction.probability = item.at("probability").get<double>();
    }
    if (item.contains("value")) {
        prediction.value = item.at("value").get<double>();
    }
    prediction.unit = item.value("unit", "");
    for (const char* name : {"probabilities", "quantiles"}) {
        if (item.contains(name)) {
            for (const auto& [part, value] : item.at(name).items()) {
                prediction.parts.emplace_back(part, value.get<double>());
            }
        }
    }
    return prediction;
}

}  // namespace

class Client::Http {
 public:
    Http(std::string url, const std::string& key) : url_(std::move(url)) {
        static const CURLcode is_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
        curl_.reset(is_ready == CURLE_OK ? curl_easy_init() : nullptr);
        if (!curl_) {
            throw std::runtime_error("libcurl does not start");
        }
        while (!url_.empty() && url_.back() == '/') {
            url_.pop_back();
        }
        add_header("Authorization: Bearer " + key);
        add_header("Content-Type: application/octet-stream");
        add_header("Accept: application/json, application/problem+json");
        add_header("Expect:");  // no extra round trip before a long body
    }

    std::string escaped(const std::string& text) const {
        char* escaped = curl_easy_escape(curl_.get(), text.data(), static_cast<int>(text.size()));
        std::string copy = escaped == nullptr ? "" : escaped;
        curl_free(escaped);
        return copy;
    }

    std::string base(const std::string& model) const { return "/v1/models/" + escaped(model); }

    // GET, or POST where there is a body.
    Json ask(const std::string& path, const std::string* body = nullptr) {
        for (int num_tries = 1;; ++num_tries) {
            const std::string answer = exchange(path, body);
            long status = 0;
            curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
            if (status == 200) {
                return Json::parse(answer);
            }
            if (status != try_again || num_tries == max_tries) {
                throw problem(status, answer);
            }
            curl_off_t after_s = 0;  // Retry-After
            curl_easy_getinfo(curl_.get(), CURLINFO_RETRY_AFTER, &after_s);
            const long pause_s = after_s > 0 ? std::min<long>(after_s, max_pause_s) : 1;
            std::this_thread::sleep_for(std::chrono::seconds(pause_s));
        }
    }

 private:
    struct Cleanup {
        void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
        void operator()(curl_slist* list) const { curl_slist_free_all(list); }
    };

    void add_header(const std::string& line) {
        curl_slist* longer = curl_slist_append(headers_.get(), line.c_str());
        if (longer == nullptr) {
            throw std::bad_alloc();
        }
        headers_.release();
        headers_.reset(longer);
    }

    std::string exchange(const std::string& path, const std::string* body) {
        CURL* curl = curl_.get();
        std::string answer;
        char reason[CURL_ERROR_SIZE] = "";
        curl_easy_reset(curl);  // the connection stays open
        curl_easy_setopt(curl, CURLOPT_URL, (url_ + path).c_str());
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers_.get());
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, timeout_s);
        if (body != nullptr) {
            curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                             static_cast<curl_off_t>(body->size()));
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data());
        }
        const CURLcode code = curl_easy_perform(curl);
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
        if (code != CURLE_OK) {
            throw ConnectionError(*reason != '\0' ? reason : curl_easy_strerror(code));
        }
        return answer;
    }

    // The problem document of an answer; a proxy in between may send none.
    Error problem(long status, const std::string& answer) const {
        const char* type = nullptr;
        curl_easy_getinfo(curl_.get(), CURLINFO_CONTENT_TYPE, &type);
        if (type != nullptr && std::string(type).rfind("application/problem+json", 0) == 0) {
            return Error(Json::parse(answer).at("detail").get<std::string>(), status);
        }
        return Error("the server answered with status " + std::to_string(status), status);
    }

    std::string url_;
    std::unique_ptr<CURL, Cleanup> curl_;
    std::unique_ptr<curl_slist, Cleanup> headers_;
};

std::size_t SensorInput::num_samples() const { return round_samples(length_s, rate_hz); }

std::size_t SensorInput::hop_samples() const {
    return std::max<std::size_t>(1, round_samples(hop_s, rate_hz));
}

std::vector<Window> SensorInput::cut(const std::vector<Sample>& samples) const {
    const std::size_t num_context = round_samples(context_s, rate_hz);
    std::vector<Window> windows;
    for (std::size_t start = 0; start + num_samples() <= samples.size(); start += hop_samples()) {
        Window window;
        for (std::size_t row = start; row < start + num_context + num_samples(); ++row) {
            window.push_back(samples[row < num_context ? 0 : row - num_context]);
        }
        windows.push_back(std::move(window));
    }
    return windows;
}

Client::Client(std::string url, std::string key)
    : http_(std::make_unique<Http>(std::move(url), key)) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

std::vector<Model> Client::models() {
    const Json answer = http_->ask("/v1/models");
    std::vector<Model> models;
    for (const Json& item : answer.at("models")) {
        // One whose release cannot be read has no version.
        models.push_back({item.at("model").get<std::string>(), item.value("version", 0)});
    }
    return models;
}

SensorInput Client::sensors(const std::string& model) {
    const Json info = http_->ask(http_->base(model));
    for (const Json& input : info.at("signature").at("inputs")) {
        if (input.at("kind") != "sensor") {
            continue;
        }
        SensorInput sensors;
        for (const Json& channel : input.at("channels")) {
            sensors.channels.push_back(channel.at("name").get<std::string>());
        }
        sensors.rate_hz = input.at("rate_hz").get<double>();
        sensors.length_s = input.at("length_s").get<double>();
        sensors.hop_s = input.at("hop_s").get<double>();
        sensors.context_s = input.at("context_s").get<double>();
        return sensors;
    }
    throw Error("model " + model + " takes no windows of sensors");
}

std::vector<Prediction> Client::predict(const std::string& model,
                                        const std::vector<std::string>& channels,
                                        const std::vector<Window>& windows) {
    std::string body;
    for (const Window& window : windows) {
        for (const Sample& sample : window) {
            for (const float value : sample) {
                put_float(body, value);
            }
        }
    }
    const std::string query = "?channels=" + http_->escaped(joined(channels));
    const Json answer = http_->ask(http_->base(model) + "/predict" + query, &body);
    std::vector<Prediction> predictions;
    for (const Json& item : answer.at("predictions")) {
        predictions.push_back(read_prediction(item));
    }
    return predictions;
}

}  // namespace motoric
