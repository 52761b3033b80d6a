#include "recording.hpp"

#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>

namespace motoric {
namespace {

std::string stripped(const std::string& text) {
    const char* blank = " \t\r\n";
    const std::size_t first = text.find_first_not_of(blank);
    const std::size_t last = text.find_last_not_of(blank);
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::string> split(const std::string& line) {
    std::vector<std::string> cells;
    std::istringstream rest(line + ",");
    for (std::string cell; std::getline(rest, cell, ',');) {
        cells.push_back(stripped(cell));
    }
    return cells;
}

float parse_cell(const std::string& cell, const std::string& where) {
    if (cell.empty()) {
        return std::numeric_limits<float>::quiet_NaN();
    }
    char* end = nullptr;
    const float value = std::strtof(cell.c_str(), &end);
    if (*end != '\0') {
        throw Error(where + " holds '" + cell + "', which is no number");
    }
    return value;
}

}  // namespace

Recording read_recording(const std::string& file) {
    std::ifstream stream(file);
    std::string line;
    if (!std::getline(stream, line)) {
        throw Error(file + " cannot be read, or is empty");
    }
    const std::vector<std::string> names = split(line);
    Recording recording;
    for (const std::string& name : names) {
        if (name != "time_s") {
            recording.channels.push_back(name);
        }
    }
    for (int number = 2; std::getline(stream, line); ++number) {
        if (stripped(line).empty()) {
            continue;
        }
        const std::string where = file + " line " + std::to_string(number);
        const std::vector<std::string> cells = split(line);
        if (cells.size() != names.size()) {
            throw Error(where + " has " + std::to_string(cells.size()) +
                        " cells, the first line " + std::to_string(names.size()));
        }
        Sample sample;
        for (std::size_t column = 0; column < cells.size(); ++column) {
            if (names[column] != "time_s") {
                sample.push_back(parse_cell(cells[column], where));
            }
        }
        recording.samples.push_back(std::move(sample));
    }
    return recording;
}

}  // namespace motoric
